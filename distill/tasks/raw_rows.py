"""The raw rows of a card by split: from an installed package, the hub, a generator, or files of the user.

If a source is not available, the error gives the command that installs or replaces it. If a column is missing, the
error names the file and the columns found.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from distill.cards.card_schema import DataSource, GeneratedSource, HubSource, PackageSource, RepositorySource
from distill.cards.cards import Card
from distill.tasks.saved_datasets import is_saved_dataset, named_rows, saved_rows, saved_splits
from teacher_cache import (
    ArmadaError,
    MissingPackageError,
    PromptError,
    did_you_mean,
    package_file,
    read_csv,
    read_rows,
)

Row = dict[str, Any]
ALL = "all"  # the only split of a source whose rows are split by hash
SUFFIXES = (".jsonl", ".parquet", ".csv")
ALIASES = {"validation": ("val", "valid", "dev")}


@dataclass(frozen=True)
class RawRows:
    """The rows of one split. `where` names their source in error messages."""

    where: str
    rows: Iterable[Row]


def source_rows(card: Card, split: str) -> RawRows:
    """Return the rows of a split of the source, with at least the columns of the card.

    Raise ArmadaError if the source is not available or lacks a column.
    """
    source = card.source
    if isinstance(source, PackageSource):
        path = package_file(
            source.package,
            source.path,
            distribution=source.distribution,
            extra=source.extra,
            purpose=f"the task {card.name}",
        )
        return RawRows(str(path), read_csv(path, card.columns, source.encoding))
    if isinstance(source, HubSource):
        return _hub_rows(card, source, split)
    if isinstance(source, DataSource):
        return _data_rows(card, data_path(card), split)
    if isinstance(source, RepositorySource):
        how = f" ({source.rows})" if source.rows else ""
        raise ArmadaError(
            f"{card.name}: its rows are not installed by any package; make train.jsonl and test.jsonl with the columns "
            f"{', '.join(card.columns)} from {source.files} of https://github.com/{source.repository}/tree/"
            f"{source.revision}{how}, and give their folder by --data-files"
        )
    return _generated_rows(card, source)


def data_path(card: Card) -> Path:
    """Return the file or folder of a card whose rows are the user's. Raise ArmadaError if there is none."""
    assert isinstance(card.source, DataSource)
    path = Path(os.path.normpath((card.home or Path()) / card.source.data))
    if not path.exists():
        raise ArmadaError(f"card {card.name}: source.data: expected a file or folder, found nothing at {path}")
    return path


def _data_rows(card: Card, path: Path, split: str) -> RawRows:
    """Return the rows of a split of a user's file or folder. ALL is a table, or the training files of a folder."""
    if is_table(path):
        if split != ALL:
            raise ArmadaError(f"card {card.name}: split: expected percentages, because {path} is one table")
        return file_rows(card, path)
    name = "train" if split == ALL else split
    if not (files := files_of(path, [name]).get(name)):
        raise no_file(path, name)
    return RawRows(str(path), chain.from_iterable(file_rows(card, file).rows for file in files))


def is_table(path: Path) -> bool:
    """Return whether a path is one table: a file, a Dataset that was saved, or a folder such as p.parquet with parts of
    one format, none of which is named as a split."""
    if not path.is_dir():
        return True
    return is_saved_dataset(path) or (path.suffix in SUFFIXES and not files_of(path, ["train"]))


def file_rows(card: Card, path: Path, may_lack_label: bool = False) -> RawRows:
    """Return the rows of a file of the user. A column may also be inside a nested column, as `b` in {"a": {"b": 1}}.

    Raise ArmadaError if the file does not exist or a column of the card is missing; only with `may_lack_label` may no
    row have a label, which is None then. `path` may also be the folder of a Dataset that was saved.
    """
    if is_saved_dataset(path):
        optional = card.answer_columns if may_lack_label else []
        return RawRows(str(path), saved_rows(path, card.columns, card.classes, optional))
    try:
        return RawRows(str(path), read_rows(path, card.columns))
    except PromptError:  # a column may be nested, and the label may be missing
        rows = _csv_rows(card, path, may_lack_label) if path.suffix == ".csv" else read_rows(path, [])
    lacks_label = may_lack_label and not any(_has(row, name) for row in rows for name in card.answer_columns)
    rows = [{**row, **dict.fromkeys(card.answer_columns)} for row in rows] if lacks_label else rows
    return RawRows(str(path), [_flat(card, row, f"{path}: row {number}") for number, row in enumerate(rows, 1)])


def _csv_rows(card: Card, path: Path, may_lack_label: bool) -> list[Row]:
    columns = card.columns
    if may_lack_label and path.is_file():
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as stream:
            header = next(csv.reader(stream), [])
        columns = [column for column in columns if column in header or column not in card.answer_columns]
    return read_csv(path, columns) if path.is_file() else read_rows(path, columns)


def _has(row: Row, column: str) -> bool:
    return column in row or any(isinstance(value, Mapping) and column in value for value in row.values())


def _flat(card: Card, row: Row, where: str) -> Row:
    """Return the row with the card's columns at its top. Raise ArmadaError if one is missing."""
    missing = [column for column in card.columns if column not in row]
    if not missing:
        return row
    nested = [value for value in row.values() if isinstance(value, Mapping)]
    found = {column: value[column] for column in missing for value in nested if column in value}
    lacking = [column for column in missing if column not in found]
    if lacking:
        near = did_you_mean(lacking[0], row)
        raise ArmadaError(f"{where}: expected column {lacking[0]!r}, found {', '.join(row)}{near}")
    return {**row, **found}


def files_of(folder: Path, names: Iterable[str]) -> dict[str, list[Path]]:
    """Return the files of a folder of the user by split: NAME.jsonl, .parquet or .csv, or the parts of a split that a
    hub's client writes as NAME-00000-of-00002.parquet. `validation` may also be called val, valid or dev. The files of
    a DatasetDict that was saved are the folders of its splits.

    Raise ArmadaError if a split has two files of different kinds, of which only one can be meant.
    """
    found = {}
    saved = saved_splits(folder)
    for name in names:
        stems = (name, *ALIASES.get(name, ()))
        if saved is not None:
            if there := [saved[stem] for stem in stems if stem in saved]:
                found[name] = there
            continue
        whole = [path for stem in stems for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
        parts = sorted(path for stem in stems for path in folder.glob(f"{stem}-*-of-*") if path.suffix in SUFFIXES)
        if len(whole) > 1 or (whole and parts):
            both = ", ".join(path.name for path in [*whole, *parts])
            raise ArmadaError(f"{folder}: expected one file for the split {name}, found {both}; remove all but one")
        if whole or parts:
            found[name] = whole or parts
    return found


def no_file(folder: Path, name: str) -> ArmadaError:
    """Return the error for a folder that lacks the file of a split."""
    there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    return ArmadaError(f"{folder}: expected {name}.jsonl, .parquet or .csv, found {there}")


def _hub_rows(card: Card, source: HubSource, split: str) -> RawRows:
    import datasets

    where = f"{source.hub}{f' ({source.config})' if source.config else ''}, split {split}"
    beside = (card.home or Path()) / source.hub
    try:
        table = datasets.load_dataset(
            str(beside) if beside.is_dir() else source.hub,
            source.config,
            revision=source.revision,
            data_dir=source.data_dir,
            data_files=source.data_files,
            split=split,
        )
    except Exception as error:  # the client of the hub raises many types
        raise ArmadaError(
            f"{where}: cannot be loaded ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}); "
            "go online, or give a folder with train.jsonl and test.jsonl in the card's columns by --data-files"
        ) from None
    if all(column in table.column_names for column in card.columns):
        return RawRows(where, named_rows(table, card.columns, card.classes if card.home else ()))
    if not len(table):
        return RawRows(where, [])
    _flat(card, table[0], where)
    return RawRows(where, (_flat(card, row, where) for row in table))


def _generated_rows(card: Card, source: GeneratedSource) -> RawRows:
    try:
        from reasoning_gym import create_dataset
    except ModuleNotFoundError:
        takes = "its dependency pycosat has no wheels, so this takes a C compiler and Python's headers"
        raise MissingPackageError("reasoning-gym", "word-problems", f"the rows of {card.name}", takes) from None
    make: Callable[..., Any] = create_dataset
    made = [make(name, size=source.rows, seed=source.seed) for name in source.datasets]
    return RawRows(f"{source.generator} ({', '.join(source.datasets)})", (row for rows in made for row in rows))
