"""The tables that a user names as ROWS, before there is a card: their splits, columns and values.

ROWS is a file, a folder with train.*, perhaps validation.* and test.*, a folder that `datasets` saved, or hf:DATASET
(hf:DATASET:CONFIG) for a data set of the hub.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill.cards.card_schema import HubSource
from distill.tasks.raw_rows import SUFFIXES, files_of, is_table, no_file
from distill.tasks.saved_datasets import class_names, is_saved_dataset, open_saved
from teacher_cache import ArmadaError, PromptError, column_names, did_you_mean, read_column, read_rows

HUB = "hf:"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Tables:
    """The tables of ROWS by split; a single table, which has yet to be split, is "train" alone. A table is a file, or a
    Dataset of `datasets`."""

    where: str
    splits: dict[str, list[Any]]
    is_single: bool

    def columns(self) -> list[str]:
        """Return the names of the columns of the training rows. Raise ArmadaError if they can't be read."""
        return list(self._of_datasets("column_names") or column_names(self.splits["train"][0]))

    @property
    def is_hub(self) -> bool:
        """Whether the tables are a data set of the hub."""
        return self.where.startswith(HUB)

    def values(self, column: str, *splits: str) -> list[Any]:
        """Return the values of a column in some splits, or in all; a split other than train may lack it."""
        found: list[Any] = []
        for name in splits or self.splits:
            for table in self.splits[name]:
                found += _values(table, column, may_lack=name != "train")
        return found

    def training_values(self, column: str) -> Iterator[Any]:
        """Yield the values of a column of the training rows; of a file only this column is in memory."""
        for table in self.splits["train"]:
            yield from read_column(table, column) if isinstance(table, Path) else table[column]

    def hides(self, columns: Sequence[str], split: str) -> bool:
        """Return whether no row of a split has a label in these columns: nothing there, or -1, as the hub writes it."""
        return all(
            str(value).strip() in ("", "-1", "-1.0", "None", "nan") for c in columns for value in self.values(c, split)
        )

    def class_names(self, column: str) -> list[str]:
        """Return the names that the tables themselves give to the classes of a column, in their order; mostly none."""
        table = self.splits["train"][0]
        return [] if isinstance(table, Path) else class_names(table, column)

    def _of_datasets(self, attribute: str) -> Any:
        table = self.splits["train"][0]
        return None if isinstance(table, Path) else getattr(table, attribute)


def open_tables(rows: str) -> Tables:
    """Return the tables of ROWS. Raise ArmadaError, which says what was expected, if there are none."""
    if rows.startswith(HUB):
        return _from_hub(*hub_name(rows))
    path = Path(rows)
    if not rows.strip() or not os.path.exists(path):
        near = did_you_mean(path.name, os.listdir(path.parent) if os.path.isdir(path.parent) else [])
        raise ArmadaError(f"{rows}: no such file or folder{near}; a data set of the hub is named hf:OWNER/NAME")
    if path.suffix in (".yaml", ".yml"):
        raise ArmadaError(f"{rows}: expected rows, found a card; it is named by --task {rows}")
    if is_table(path):
        if path.suffix not in SUFFIXES and not is_saved_dataset(path):
            raise ArmadaError(f"{rows}: expected rows in a file ending in {', '.join(SUFFIXES)}, or in a folder")
        return Tables(rows, {"train": [_opened(path)]}, is_single=True)
    files = files_of(path, SPLITS)
    if "train" not in files:
        raise no_file(path, "train")
    return Tables(rows, {name: [_opened(one) for one in found] for name, found in files.items()}, len(files) == 1)


def hub_name(rows: str) -> tuple[str, str | None]:
    """Return the data set of the hub and its configuration that hf:NAME or hf:NAME:CONFIG names."""
    name, _, config = rows.removeprefix(HUB).partition(":")
    return name, config or None


def _opened(path: Path) -> Any:
    return open_saved(path) if is_saved_dataset(path) else path


def _from_hub(name: str, config: str | None) -> Tables:
    import datasets

    where = f"{HUB}{name}{f':{config}' if config else ''}"
    try:
        HubSource(hub=name, licence="unknown")
    except ValidationError as error:
        raise ArmadaError(f"{where}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    try:
        found = datasets.load_dataset(name, config)
    except Exception as error:  # the client of the hub raises many types
        said = str(error).splitlines()[0] if str(error) else ""
        raise ArmadaError(f"{where}: cannot be loaded ({type(error).__name__}: {said})") from None
    if "train" not in found:
        raise ArmadaError(f"{where}: expected a split train, found {', '.join(found)}")
    splits = {split: [found[split]] for split in SPLITS if split in found}
    return Tables(where, splits, len(splits) == 1)


def _values(table: Any, column: str, may_lack: bool) -> Sequence[Any]:
    if not isinstance(table, Path):
        return list(table[column]) if column in table.column_names or not may_lack else []
    try:
        return [row[column] for row in read_rows(table, [column])]
    except PromptError:
        if may_lack and column not in column_names(table):
            return []
        raise
