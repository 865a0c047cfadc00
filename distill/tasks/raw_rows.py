"""The raw rows of a card by split: from an installed package, the hub, a generator, or files of the user.

If a source is not available, the error gives the command that installs or replaces it. If a column is missing, the
error names the file and the columns found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.tasks.card_schema import GeneratedSource, HubSource, PackageSource
from distill.tasks.cards import Card
from teacher_cache import ArmadaError, MissingPackageError, package_file, read_csv, read_rows

Row = dict[str, Any]
ALL = "all"  # the only split of a source whose rows are split by hash
SUFFIXES = (".jsonl", ".parquet", ".csv")


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
    return _generated_rows(card, source)


def file_rows(card: Card, path: Path) -> RawRows:
    """Return the rows of a file of the user. Raise ArmadaError if a column of the card is missing."""
    return RawRows(str(path), read_rows(path, card.columns))


def files_of(folder: Path) -> dict[str, Path]:
    """Return the files of a folder of the user by split: train, test and perhaps validation.

    Raise ArmadaError if train or test is missing.
    """
    found = {
        name: path
        for name in ("train", "validation", "test")
        for path in (folder / f"{name}{suffix}" for suffix in SUFFIXES)
        if path.is_file()
    }
    missing = [name for name in ("train", "test") if name not in found]
    if missing:
        there = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
        raise ArmadaError(f"{folder}: expected {missing[0]}.jsonl, .parquet or .csv, found {there}")
    return found


def _hub_rows(card: Card, source: HubSource, split: str) -> RawRows:
    import datasets

    where = f"{source.hub}{f' ({source.config})' if source.config else ''}, split {split}"
    try:
        table = datasets.load_dataset(
            source.hub,
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
    missing = [column for column in card.columns if column not in table.column_names]
    if missing:
        raise ArmadaError(f"{where}: expected column {missing[0]!r}, found {', '.join(table.column_names)}")
    return RawRows(where, table.select_columns(card.columns))


def _generated_rows(card: Card, source: GeneratedSource) -> RawRows:
    try:
        from reasoning_gym import create_dataset
    except ModuleNotFoundError:
        takes = "its dependency pycosat has no wheels, so this takes a C compiler and Python's headers"
        raise MissingPackageError("reasoning-gym", "word-problems", f"the rows of {card.name}", takes) from None
    make: Callable[..., Any] = create_dataset
    made = [make(name, size=source.rows, seed=source.seed) for name in source.datasets]
    return RawRows(f"{source.generator} ({', '.join(source.datasets)})", (row for rows in made for row in rows))
