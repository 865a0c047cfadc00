"""The files of one's own features: arrays, tables and lists of keys, read without executing anything in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from teacher_cache import ArmadaError, CoverageError

# The columns that may have the keys, the first of which is taken, and what keys they have.
KEY_COLUMNS = {"prompt_key": "prompt_key", "prompt": "prompt", "id": "id", "text": "prompt"}
FEATURE_COLUMNS = ("feature", "features", "embedding", "embeddings")  # which is taken of several columns of vectors
_MOST_SAMPLES = 1000
_SAMPLE = f"expected a number from 0 to {_MOST_SAMPLES - 1}"


@dataclass(frozen=True)
class KeyColumn:
    """The key of each of N rows."""

    where: str  # file and column, for messages
    keys: list[str]
    kind: str = ""  # prompt, prompt_key or id; empty if the file does not say it
    samples: list[int] | None = None  # the number of each row among those of its key, if the file says it


def read_array(path: Path) -> np.ndarray:
    """Map an array (N, L) of float16, float32 or float64. Raise ArmadaError if the file has no such array."""
    expected = f"{path}: expected an array of rows and numbers, as numpy.save writes it"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses a damaged header with Python's tokenizer, which raises its own errors
        raise ArmadaError(f"{expected}: {' '.join(str(error).split())}") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or 0 in array.shape[1:]:
        raise ArmadaError(f"{expected}, found the shape {getattr(array, 'shape', None)}")
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        raise ArmadaError(f"{expected} of float16, float32 or float64, found {array.dtype}")
    found: np.ndarray = array
    return found


def read_keys(path: Path) -> KeyColumn:
    """Read the keys of an array: a line each (.txt), a JSON text or an object each (.jsonl), or a column (.parquet).

    Raise ArmadaError if the file is missing or has something else.
    """
    if not path.is_file():
        raise ArmadaError(f"--feature-keys: no such file: {path}")
    if path.suffix == ".parquet":
        return _key_column(_open(path), path)
    if path.suffix not in (".txt", ".jsonl"):
        raise ArmadaError(f"--feature-keys: expected a file ending in .txt, .jsonl or .parquet, found {path}")
    try:
        lines = path.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArmadaError(f"{path}: expected text in UTF-8: {error}") from None
    if path.suffix == ".txt":
        return KeyColumn(str(path), [line.removesuffix("\r") for line in lines])
    rows = [_json(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]
    if all(isinstance(row, str) for row in rows):
        return KeyColumn(str(path), rows)
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict) and not _is_sample(row.get("sample", 0)):
            raise ArmadaError(f"{path}, line {number}: sample: {_SAMPLE}, found {row['sample']!r:.90}")
    table = pa.table({name: [_of(row, name) for row in rows] for name in (*KEY_COLUMNS, "sample")})
    return _key_column(table.select([name for name in table.column_names if table[name].null_count < len(table)]), path)


def _json(line: str, where: str) -> Any:
    try:
        found = json.loads(line)
        if "\\u" in line:
            json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a character is no text
    except (ValueError, RecursionError) as error:
        raise ArmadaError(f"{where}: expected JSON: {error}") from None
    if not isinstance(found, str | dict):
        raise ArmadaError(f'{where}: expected a text, or an object as {{"prompt": "..."}}, found {line[:90]}')
    return found


def _of(row: Any, name: str) -> Any:
    value = row.get(name) if isinstance(row, dict) else None
    return value if isinstance(value, int) and name == "sample" else str(value) if isinstance(value, str) else None


def read_table(path: Path) -> tuple[KeyColumn, np.ndarray]:
    """Read the keys and the vectors (N, L) of a Parquet file, without the rows that have no vector.

    Raise ArmadaError if it has no column of keys or of vectors, and CoverageError, with some keys, if the vectors have
    different lengths.
    """
    table = _open(path)
    name = _vector_column(table, path)
    try:
        table = table.filter(pc.is_valid(table[name]))
    except pa.ArrowException as error:  # of a type that Arrow can't filter
        raise ArmadaError(f"{path}: expected columns of plain types: {error}") from None
    keys = _key_column(table, path)
    column = table[name].combine_chunks()
    lengths = np.asarray(pc.list_value_length(column), np.int64)
    width = int(np.bincount(lengths).argmax()) if len(lengths) else 0
    if (wrong := np.flatnonzero(lengths != width)).size or (len(lengths) and not width):
        found = [f"  for example: {keys.keys[row][:90]!r} has {lengths[row]}" for row in wrong[:3]]
        raise CoverageError(
            f"{path}: column {name}: expected vectors of one length, found {len(wrong)} of {len(lengths)} rows that "
            "\n".join([f"do not have the {width} numbers of most rows", *found])
        )
    values = pc.list_flatten(column).to_numpy(zero_copy_only=False)
    array: np.ndarray = values.reshape(len(lengths), width)
    return keys, array


def _open(path: Path) -> pa.Table:
    try:
        table = parquet.read_table(path, partitioning=None)
        names = table.column_names
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise ArmadaError(f"{path}: expected a Parquet file: {error}") from None
    if twice := [name for name in names if names.count(name) > 1]:
        raise ArmadaError(f"{path}: expected one column {twice[0]}, found several")
    return table


def _vector_column(table: pa.Table, path: Path) -> str:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    found = [
        field.name
        for field in table.schema
        if any(is_list(field.type) for is_list in lists) and pa.types.is_floating(field.type.value_type)
    ]
    named = [name for name in FEATURE_COLUMNS if name in found]
    if len(found) != 1 and not named:
        raise ArmadaError(
            f"{path}: expected one column of lists of floating-point numbers, or one named feature, found "
            f"{', '.join(found) or f'none among {_columns(table)}'}"
        )
    return named[0] if named else found[0]


def _key_column(table: pa.Table, path: Path) -> KeyColumn:
    name = next((name for name in KEY_COLUMNS if name in table.column_names), None)
    if name is None:
        raise ArmadaError(f"{path}: expected a column of keys ({', '.join(KEY_COLUMNS)}), found {_columns(table)}")
    where = f"{path}: column {name}"
    try:
        keys = table[name].to_pylist()
    except (ValueError, OverflowError, TypeError) as error:  # a text that is no UTF-8, a time after the year 9999
        raise ArmadaError(f"{where}: expected texts, found: {error}") from None
    for row, key in enumerate(keys):
        if not isinstance(key, str):
            raise ArmadaError(f"{where}, row {row}: expected a text, found {key!r}")
    has_samples = "sample" in table.column_names
    if has_samples and not pa.types.is_integer(table["sample"].type):
        raise ArmadaError(f"{path}: column sample: {_SAMPLE}, found {table['sample'].type}")
    samples = table["sample"].to_pylist() if has_samples else None
    for row, sample in enumerate(samples or []):
        if not _is_sample(sample):
            raise ArmadaError(f"{path}: column sample, row {row}: {_SAMPLE}, found {sample!r:.90}")
    return KeyColumn(where, keys, KEY_COLUMNS[name], samples)


def _is_sample(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST_SAMPLES


def _columns(table: pa.Table) -> str:
    names: Sequence[str] = table.column_names
    return ", ".join(names) or "no column"
