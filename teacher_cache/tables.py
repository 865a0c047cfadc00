"""Tables read from a user's file: .jsonl, .csv or .parquet, or a folder of that ending with parts of the same format.

A file that can't be read is an error that names the file, the line or the column. A field that is not asked for breaks
nothing, whatever its size, depth or type.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teacher_cache.errors import PromptError, did_you_mean
from teacher_cache.text_files import check_file, lone_surrogate, read_text, texts_in

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".jsonl", ".csv", ".parquet")
_BLOCKS = (1 << 20, 1 << 24, 1 << 28, (1 << 31) - 1)  # bytes of CSV read at once: one row has to fit into two blocks
_ROWS = 16_384  # values of a column handled at once
_DIGITS = 4300  # most digits of an integer that Python reads; larger numbers become floating-point numbers
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of a .jsonl, .csv or .parquet file, or of a folder with such an ending and parts inside it.

    Each row has at least the named columns, or all columns if none is named.

    Raise PromptError if the file does not exist, can't be read, has another ending, or lacks a column.
    """
    _check_ending(path)
    if path.suffix == ".parquet":
        return _rows_of(_parquet_table(path, columns), path)
    parts = _parts(path) if path.is_dir() else [path]
    read = read_csv if path.suffix == ".csv" else _read_jsonl
    return [row for part in parts for row in read(part, columns)]


def read_column(path: Path, column: str) -> Iterator[Any]:
    """Yield the values of a column of a file or folder that `read_rows` reads, and raise its errors.

    Of .csv and .parquet only the column is in memory, in Arrow's form: ten million texts take a few hundred megabytes.
    """
    if path.suffix == ".parquet":
        tables = [_parquet_table(path, [column])]
    elif path.suffix == ".csv":
        tables = [csv_table(part, [column]) for part in (_parts(path) if path.is_dir() else [path])]
    else:
        yield from (row[column] for row in read_rows(path, [column]))
        return
    for table in tables:
        for batch in table.to_batches(max_chunksize=_ROWS):
            yield from _values(batch[column], column, path)


def read_csv(path: Path, columns: Sequence[str], encoding: str = "utf-8") -> list[dict[str, Any]]:
    """Return the named columns (or all) of the rows of a .csv file. Every value is a text; an empty one is "".

    Raise PromptError if the file is not readable CSV or lacks a column.
    """
    rows: list[dict[str, Any]] = csv_table(path, columns, encoding).to_pylist()
    return rows


def csv_table(path: Path, columns: Sequence[str], encoding: str = "utf-8") -> pa.Table:
    """Return the named columns (or all) of a .csv file with a header row. Every value is a text; an empty one is ''.

    Raise PromptError if the file is not readable CSV or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    header = _csv_header(path, encoding)
    if not header:
        raise PromptError(
            f"{path}: no readable CSV: expected the names of the columns in the first line, found nothing"
        )
    if encoding == "utf-8" and (not set(columns) <= set(header) or "\ufffd" in "".join(header)):
        read_text(path)  # names the line if it is not UTF-8
    _check_columns(path, columns, header)
    wanted = list(columns) or header
    _check_once(path, wanted, header)
    convert = arrow_csv.ConvertOptions(
        include_columns=wanted, column_types={column: pa.string() for column in wanted}, strings_can_be_null=False
    )
    size = path.stat().st_size
    for block in _BLOCKS:
        try:
            return arrow_csv.read_csv(
                path,
                read_options=arrow_csv.ReadOptions(encoding=encoding, block_size=block),
                parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
                convert_options=convert,
            )
        except (pa.ArrowException, UnicodeDecodeError) as error:
            if size <= block or block == _BLOCKS[-1] or isinstance(error, UnicodeDecodeError):
                if encoding == "utf-8":
                    read_text(path)  # names the line if it is not UTF-8
                raise PromptError(f"{path}: no readable CSV: {str(error)[:300]}") from None
            # a row may be larger than a block: read again with larger ones
    raise AssertionError("the last block size returns or raises")


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a file or folder as of `read_rows`: of .jsonl those of its first row.

    Raise PromptError as `read_rows`, and if a .jsonl file has no row.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    _check_ending(path)
    part = _parts(path)[0] if path.is_dir() else path
    if path.suffix == ".csv":
        return _csv_header(part, "utf-8")
    if path.suffix == ".jsonl":
        rows = _read_jsonl(part, [], limit=1)
        if not rows:
            raise PromptError(f"{part}: expected rows, found none")
        return list(rows[0])
    try:
        check_file(part)
        folders = [name.partition("=")[0] for name in part.relative_to(path).parts[:-1] if "=" in name]
        return [*parquet.read_schema(part).names, *folders]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: no readable Parquet: {error}") from None


def _csv_header(path: Path, encoding: str) -> list[str]:
    check_file(path)
    try:
        with path.open(
            encoding="utf-8-sig" if encoding == "utf-8" else encoding, errors="replace", newline=""
        ) as lines:
            return next(csv.reader(lines), [])
    except OSError as error:
        raise PromptError(f"{path}: {error.strerror}") from None
    except csv.Error as error:
        if encoding == "utf-8":
            read_text(path)  # names the line if it is not UTF-8; Python 3.10 sees a NUL first
        raise PromptError(f"{path}: no readable CSV: {error}") from None


def _read_jsonl(path: Path, columns: Sequence[str], limit: int | None = None) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if len(rows) == limit:
            break
        if line.strip():
            row = _json_object(line, f"{path}: line {number}")
            _check_columns(f"{path}: row {len(rows) + 1}", columns, list(row))
            if _HALF_CHARACTER.search(line):
                for column in columns or row:
                    if fault := next(filter(None, map(lone_surrogate, texts_in(row[column]))), ""):
                        where = f"{path}: row {len(rows) + 1}, column {column!r}"
                        raise PromptError(f"{where}: expected a text, found {fault}; mend the row")
            rows.append(row)
    return rows


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, parse_int=_integer)
    except RecursionError:
        raise PromptError(f"{where}: expected a JSON object, found lists or objects that are nested too deep") from None
    except ValueError as error:
        raise PromptError(f"{where}: expected a JSON object, found {error}") from None
    if not isinstance(row, dict):
        raise PromptError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _parquet_table(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return the table of a Parquet file or folder. Columns may also be in the names of folders, as in `label=1/`."""
    import pyarrow as pa
    import pyarrow.dataset as dataset
    import pyarrow.parquet as parquet

    try:
        if path.is_dir():
            files = [str(part) for part in _parts(path)]
            source = dataset.dataset(files, format="parquet", partitioning="hive", partition_base_dir=str(path))
            _check_columns(path, columns, source.schema.names)
            return source.to_table(columns=list(columns) or None)
        check_file(path)
        names = parquet.read_schema(path).names
        _check_columns(path, columns, names)
        _check_once(path, columns or names, names)
        return parquet.ParquetFile(path).read(columns=list(columns) or None)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise PromptError(f"{path}: no readable Parquet: {error}") from None


def _rows_of(table: pa.Table, path: Path) -> list[dict[str, Any]]:
    columns = {name: _values(table[name], name, path) for name in table.column_names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(column: pa.ChunkedArray | pa.Array, name: str, path: Path) -> list[Any]:
    """Return a column as Python's values. Raise PromptError if there is none for a value."""
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, TypeError) as error:  # a text that is no UTF-8, a time after the year 9999
        raise PromptError(f"{path}: column {name!r}: expected values that can be read, found: {error}") from None


def _parts(folder: Path) -> list[Path]:
    """Return the files of the folder's own ending inside it, without hidden ones, parts 2 before parts 10."""
    endings = (folder.suffix, ".json") if folder.suffix == ".jsonl" else (folder.suffix,)
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix in endings and path.is_file() and not _is_hidden(path.relative_to(folder))
    ]
    if not found:
        raise PromptError(f"{folder}: a folder without any {folder.suffix} file; expected a file, or a folder of parts")
    return sorted(found, key=lambda path: [int(p) if p.isdecimal() else p for p in re.split("([0-9]+)", str(path))])


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _check_columns(where: Path | str, columns: Sequence[str], found: Sequence[str]) -> None:
    for column in columns:
        if column not in found:
            near = did_you_mean(column, found)
            raise PromptError(f"{where}: expected column {column!r}, found {', '.join(found)}{near}")


def _check_once(where: Path, columns: Sequence[str], found: Sequence[str]) -> None:
    if twice := [column for column in columns if found.count(column) > 1]:
        raise PromptError(f"{where}: expected one column {twice[0]!r}, found {found.count(twice[0])}; rename one")


def _check_ending(path: Path) -> None:
    """Raise PromptError unless a path ends as a table does."""
    if path.suffix not in SUFFIXES:
        found = "a folder" if path.is_dir() else path.suffix or "no ending"
        raise PromptError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}, found {found}")
