"""Salvage: a spool that is truncated or no SQLite file is set aside, and what can be read of it goes into a new one.

Each row is read by itself, so that a damaged page costs only the rows on it. A picture is stored with the facts of its
row, and is taken over if its bytes have the digest among them. The damaged file is kept.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teacher_cache.errors import CacheError
from teacher_cache.files.disk import DiskFullError
from teacher_cache.keys import sha256
from teacher_cache.spool.database import PAGE, RAISE, SpoolDatabase
from teacher_cache.spool.locks import BATCH

_SUFFIXES = ("", "-wal", "-shm")
_FRESH = "salvaged.sqlite"
_PAGES = (PAGE, 4096)  # bytes of a page: of this armada's spools, and of earlier ones
_BLIND = 4096  # rows to try after a damaged page if the number of rows can't be read


@dataclass(frozen=True)
class Salvaged:
    """Where a damaged spool was moved, and how many pictures and failures were saved."""

    aside: Path
    pictures: int
    failures: int


def finish_salvage(file: Path) -> None:
    """Take the new file of a salvage that was killed after it had moved the damaged one aside."""
    fresh = file.with_name(_FRESH)
    if fresh.exists() and not file.exists():
        fresh.rename(file)


def salvage(file: Path) -> Salvaged:
    """Move a damaged spool aside, and put a new one with what can be read of it in its place.

    The caller has made sure that no build is running. A killed salvage is done again, or finished, by the next one.
    """
    fresh = file.with_name(_FRESH)
    for suffix in _SUFFIXES:
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    counts = _read_into(file, fresh)
    number = 1 + sum(1 for _ in file.parent.glob("damaged-*"))
    aside = file.parent / f"damaged-{number}" / file.name
    aside.parent.mkdir()
    for suffix in reversed(_SUFFIXES):
        with contextlib.suppress(FileNotFoundError):
            file.with_name(file.name + suffix).rename(aside.with_name(aside.name + suffix))
    fresh.rename(file)
    return Salvaged(aside, counts["drawn"], counts["failed"])


def _read_into(file: Path, fresh: Path) -> dict[str, int]:
    """Write what can be read of a damaged file into a new one. Return the number of saved rows by state."""
    counts = {"drawn": 0, "failed": 0}
    database = SpoolDatabase(fresh)
    try:
        with _source(file, fresh) as source:
            for row, picture in _salvageable(source):
                call = {name: row.get(name) for name in ("teacher", "image_key", "cost_usd")}
                parts = {"rows": row, **({"pictures": picture} if picture else {}), "calls": call}
                if _insert(database, parts):
                    counts[row["state"]] += 1
            _save_sums(source, database)
            _save_batches(source, database)
    finally:
        database.close()
    return counts


@contextmanager
def _source(file: Path, fresh: Path) -> Iterator[sqlite3.Connection]:
    """Open a damaged file for reading. If its first page, which lists the tables, is what is damaged, open a copy that
    has the first page of a new spool, whose tables begin at the same pages."""
    with contextlib.closing(sqlite3.connect(file)) as source:
        source.execute("PRAGMA writable_schema=ON")  # else SQLite refuses a truncated file as a whole
        if _lists_tables(source):
            yield source
            return
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        copies = [_with_first_page(file, Path(folder) / str(page), page) for page in _PAGES]
        copy = max(copies, key=_readable)
        with contextlib.closing(sqlite3.connect(copy)) as source:
            source.execute("PRAGMA writable_schema=ON")
            yield source


def _with_first_page(file: Path, folder: Path, size: int) -> Path:
    """Return a copy of a damaged file with the first page, of `size` bytes, of a new spool."""
    folder.mkdir()
    copy, model = folder / "copy.sqlite", folder / "model.sqlite"
    for suffix in _SUFFIXES[:2]:
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(file.with_name(file.name + suffix), copy.with_name(copy.name + suffix))
    SpoolDatabase(model, size).close()
    page = bytearray(model.read_bytes()[:size])
    page[28:40] = struct.pack(">3I", copy.stat().st_size // size, 0, 0)  # the number of pages, none of them free
    with copy.open("r+b") as stream:
        stream.write(page)
    return copy


def _readable(file: Path) -> int:
    """Return how many pictures and rows of a file can be read: few or none if its pages have another size."""
    with contextlib.closing(sqlite3.connect(file)) as source:
        source.execute("PRAGMA writable_schema=ON")
        return sum(1 for table in ("pictures", "rows") for _ in _rows(source, table))


def _lists_tables(source: sqlite3.Connection) -> bool:
    with contextlib.suppress(sqlite3.DatabaseError):
        return source.execute("SELECT 1 FROM sqlite_master WHERE name = 'rows'").fetchone() is not None
    return False


def _salvageable(source: sqlite3.Connection) -> Iterator[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Yield the answered rows that are complete, drawn ones with their picture. A picture tells its row itself."""
    for picture in _rows(source, "pictures"):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
            row = json.loads(picture["row"])
            if sha256(picture["data"]) == row["sha256"] and row["state"] == "drawn" and _is_row(row):
                yield row, picture
    for row in _rows(source, "rows"):
        if row.get("state") == "failed" and _is_row(row):
            yield row, None


def _is_row(row: dict[str, Any]) -> bool:
    """Return whether a row has the values that every row has, with their types."""
    texts, numbers = ("image_key", "teacher", "prompt", "prompt_key"), ("sample", "attempts")
    return all(isinstance(row.get(name), str) for name in texts) and all(type(row.get(name)) is int for name in numbers)


def _rows(source: sqlite3.Connection, table: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table that can be read, one look-up each after the first damaged page."""
    last = 0
    with contextlib.suppress(sqlite3.DatabaseError):
        for number, row in _numbered(
            source.execute(f"SELECT rowid AS number, * FROM {table} NOT INDEXED ORDER BY rowid")
        ):
            if number <= last or next(iter(row.values())) is None:  # a page that was cut off in the middle
                raise sqlite3.DatabaseError
            last = number
            yield row
        return
    end = last + _BLIND
    with contextlib.suppress(sqlite3.DatabaseError, TypeError):
        end = int(source.execute(f"SELECT max(rowid) FROM {table} NOT INDEXED").fetchone()[0])
    for place in range(last + 1, end + 1):
        with contextlib.suppress(sqlite3.DatabaseError):
            found = source.execute(f"SELECT rowid AS number, * FROM {table} WHERE rowid = ?", (place,))
            yield from (row for _, row in _numbered(found))


def _numbered(cursor: sqlite3.Cursor) -> Iterator[tuple[int, dict[str, Any]]]:
    names = [column[0] for column in cursor.description]
    for values in cursor:
        row = dict(zip(names, values, strict=True))
        yield row.pop("number"), row


def _insert(database: SpoolDatabase, parts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Insert a row into each of some tables, all or none. Return whether the tables take them: what is damaged may have
    other columns and values."""
    with _what_fits():
        with database.transaction() as db:
            for table, row in parts.items():
                known = {column[1] for column in db.execute(f"PRAGMA table_info({table})")}
                names = [name for name in row if name in known]
                marks = ", ".join("?" * len(names))
                db.execute(
                    f"INSERT OR IGNORE INTO {table}({', '.join(names)}) VALUES ({marks})", [row[name] for name in names]
                )
        return True
    return False


@contextmanager
def _what_fits() -> Iterator[None]:
    """Leave out what the new tables do not take; a full disk still ends the salvage."""
    try:
        yield
    except DiskFullError:
        raise
    except (sqlite3.Error, CacheError, OverflowError, UnicodeEncodeError):
        return


def _save_sums(source: sqlite3.Connection, database: SpoolDatabase) -> None:
    """Take over the sums of the ledger, which are larger than those of the saved rows, and the rates."""
    for row in _rows(source, "spent"):
        values = [row.get(name) for name in ("teacher", "calls", "cost_usd")]
        if isinstance(values[0], str) and all(isinstance(value, int | float) for value in values[1:]):
            with _what_fits(), database.transaction() as db:
                db.execute(RAISE, values)
    for row in _rows(source, "rates"):
        _insert(database, {"rates": row})


def _save_batches(source: sqlite3.Connection, database: SpoolDatabase) -> None:
    """Take over what is known of batches at a provider, whose rows have no answer yet."""
    for table, name in (("batches", "uid"), ("rows", "owner")):
        for row in _rows(source, table):
            if str(row.get(name)).startswith(BATCH) or re.fullmatch("[0-9a-f]{32}", str(row.get("uid"))):
                _insert(database, {table: row})
