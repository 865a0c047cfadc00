"""Prompts and tables read from a user's file: .txt (one prompt per line), .jsonl, .csv or .parquet.

A row that can't be a prompt is an error that names the file, the row and the column: no row is skipped silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from teacher_cache.errors import PromptError

SUFFIXES = (".txt", ".jsonl", ".csv", ".parquet")


def read_prompts(path: Path, column: str = "text") -> list[str]:
    """Return the prompts of a file in the file's order, with duplicates. `column` is not used for a .txt file.

    Blank lines of a .txt or .jsonl file are not rows. Raise PromptError if the file can't be read or a row is not a
    prompt.
    """
    if path.suffix == ".txt":
        prompts: Iterable[Any] = (line.rstrip("\r") for line in _decode(path).split("\n") if line.strip())
        column = "line"
    else:
        prompts = [row[column] for row in read_rows(path, [column])]
    return check_prompts(prompts, str(path), column)


def check_prompts(prompts: Iterable[Any], source: str, column: str) -> list[str]:
    """Return the prompts as a list of non-empty texts.

    Raise PromptError for the first value that is not such a text, or if there is none; `source` names the file or the
    data set in the message.
    """
    checked = []
    for number, prompt in enumerate(prompts, 1):
        fault = _fault(prompt)
        if fault:
            raise PromptError(
                f"{source}: row {number}, column {column!r}: expected a text, found {fault}; mend the row"
            )
        checked.append(prompt)
    if not checked:
        raise PromptError(f"{source}: expected at least one prompt, found none")
    return checked


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a .jsonl, .csv or .parquet file, each with at least the named columns.

    Raise PromptError if the file does not exist, can't be read, has another format, or lacks a column.
    """
    if not path.is_file():
        raise _no_file(path)
    if path.suffix == ".jsonl":
        rows = _read_jsonl(path)
        for number, row in enumerate(rows, 1):
            for column in columns:
                if column not in row:
                    raise PromptError(f"{path}: row {number}: expected column {column!r}, found {', '.join(row)}")
        return rows
    if path.suffix == ".csv":
        return read_csv(path, columns)
    if path.suffix == ".parquet":
        return _read_parquet(path, columns)
    raise PromptError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}, found {path.suffix or 'no ending'}")


def read_csv(path: Path, columns: Sequence[str], encoding: str = "utf-8") -> list[dict[str, Any]]:
    """Return the named columns of a .csv file with a header row. Every value is a text; an empty one is ''.

    Raise PromptError if the file is not readable CSV or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.csv as csv

    with path.open("rb") as stream:
        header = stream.readline().decode(encoding, "replace").strip().split(",")
    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(encoding=encoding),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                include_columns=list(columns),
                column_types={column: pa.string() for column in columns},
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: no readable CSV: {error}") from None
    except KeyError:
        missing = [column for column in columns if column not in header]
        raise PromptError(f"{path}: expected column {missing[0]!r}, found {', '.join(header)}") from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def _read_parquet(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        names = parquet.read_schema(path).names
        missing = [column for column in columns if column not in names]
        if missing:
            raise PromptError(f"{path}: expected column {missing[0]!r}, found {', '.join(names)}")
        rows: list[dict[str, Any]] = parquet.read_table(path, columns=list(columns)).to_pylist()
        return rows
    except pa.ArrowInvalid as error:
        raise PromptError(f"{path}: no readable Parquet: {error}") from None


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(_decode(path).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise PromptError(f"{path}: line {number}: expected a JSON object, found {error}") from None
            if not isinstance(row, dict):
                raise PromptError(f"{path}: line {number}: expected a JSON object, found {type(row).__name__}")
            rows.append(row)
    return rows


def _no_file(path: Path) -> PromptError:
    return PromptError(f"{path}: no such file")


def _decode(path: Path) -> str:
    if not path.is_file():
        raise _no_file(path)
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PromptError(f"{path}: line {line}: expected UTF-8, found the byte 0x{data[error.start]:02x}") from None


def _fault(prompt: Any) -> str:
    """Return what makes a value unusable as a prompt, or "" if it is a prompt."""
    if prompt is None:
        return "null"
    if not isinstance(prompt, str):
        return f"the {type(prompt).__name__} {prompt!r}"
    if not prompt.strip():
        return "an empty text"
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"a lone surrogate at character {error.start + 1}"
    return ""
