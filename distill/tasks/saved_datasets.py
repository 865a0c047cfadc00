"""Folders that `datasets` saved by `save_to_disk`: a Dataset, or a DatasetDict with one Dataset per split.

They are read as data. A class that is stored as a number is read by its name if the card knows these names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from teacher_cache import ArmadaError, did_you_mean

_MAX_BYTES = 1 << 20  # of the list of splits


def is_saved_dataset(path: Path) -> bool:
    """Return whether a folder is a Dataset that was saved."""
    return (path / "state.json").is_file() and (path / "dataset_info.json").is_file()


def saved_splits(folder: Path) -> dict[str, Path] | None:
    """Return the folders of the splits of a DatasetDict that was saved, or None for another folder.

    Raise ArmadaError if its list of splits can't be read.
    """
    path = folder / "dataset_dict.json"
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            names = json.loads(stream.read(_MAX_BYTES))["splits"]
        return {name: folder / name for name in names if Path(name).name == name and is_saved_dataset(folder / name)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArmadaError(f"{path}: expected the splits of a DatasetDict, found {type(error).__name__}") from None


def open_saved(folder: Path) -> Any:
    """Return the Dataset in a folder. Raise ArmadaError if it can't be read.

    Arrow reads a file as it is: lengths and offsets that lead out of it would end the process, so they are checked.
    """
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
        found.data.validate(full=True)
        return found
    except Exception as error:  # of Arrow, of JSON and of datasets itself
        said = str(error).splitlines()[0][:300] if str(error) else ""
        raise ArmadaError(f"{folder}: no Dataset that can be read ({type(error).__name__}: {said})") from None


def saved_rows(folder: Path, columns: Sequence[str], classes: Sequence[str], optional: Sequence[str] = ()) -> Any:
    """Return the rows of a Dataset that was saved, with these columns, as an iterable of dictionaries.

    Columns that are `optional` are None if the Dataset lacks them. Raise ArmadaError if it can't be read or lacks
    another column.
    """
    table = open_saved(folder)
    for column in columns:
        if column not in table.column_names and column not in optional:
            found = ", ".join(table.column_names)
            near = did_you_mean(column, table.column_names)
            raise ArmadaError(f"{folder}: expected column {column!r}, found {found}{near}")
    return named_rows(table, columns, classes)


def named_rows(table: Any, columns: Sequence[str], classes: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Return the rows of a Dataset with these columns, of which one that it lacks is None.

    A column of class numbers is read by the names of the Dataset if all of them are among `classes`; -1 is no class.
    """
    there = [column for column in columns if column in table.column_names]
    names = {column: found for column in there if (found := class_names(table, column)) and set(found) <= set(classes)}
    selected = table.select_columns(there)
    return _Rows(selected, dict.fromkeys(columns), names)


class _Rows:
    """Rows that can be read several times."""

    def __init__(self, table: Any, empty: dict[str, None], names: dict[str, list[str]]) -> None:
        self.table, self.empty, self.names = table, empty, names

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.table:
            yield {**self.empty, **row, **{column: _named(row[column], names) for column, names in self.names.items()}}


def class_names(table: Any, column: str) -> list[str]:
    """Return the names of the classes of a column, or of the lists in it, in their order; none if it has no classes."""
    feature = table.features[column]
    inner = getattr(feature, "feature", feature)
    return list(getattr(inner, "names", None) or [])


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
