"""The SQLite file of the spool: its tables, and transactions that several processes and threads share.

`rows` and `pictures` hold what is not committed yet (beside a picture its row as JSON, for a salvage); `calls` is the
ledger of the calls of running builds and of rows that are not sealed; triggers keep the sums of all calls ever made,
per teacher, in `spent`; `rates` are the times measured on this host. `batches` are requests that were sent in a file:
the owner of their rows is the batch. `tasks` are pictures that a server draws later, see tasks.py.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from teacher_cache.errors import CacheError
from teacher_cache.files.disk import disk_errors_in_words

VERSION = 3
PAGE = 16_384  # bytes of a new file: a picture is written in a quarter of the steps that SQLite's own 4,096 take
_LOG = (
    32 << 20
)  # bytes of the write-ahead log that are moved into the file together: seldom, as the commits wait for it
SCHEMA = """
CREATE TABLE IF NOT EXISTS rows(
  image_key TEXT PRIMARY KEY, teacher TEXT NOT NULL, prompt TEXT NOT NULL, prompt_key TEXT NOT NULL,
  sample INTEGER NOT NULL, state TEXT NOT NULL CHECK(state IN ('claimed', 'drawn', 'failed')), owner TEXT,
  attempts INTEGER NOT NULL, suffix TEXT, sha256 TEXT, cost_usd REAL, seconds REAL, reason TEXT, message TEXT,
  drawn_prompt TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS rows_by_state ON rows(teacher, state);
CREATE TABLE IF NOT EXISTS pictures(image_key TEXT PRIMARY KEY, row TEXT NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS calls(
  id INTEGER PRIMARY KEY, teacher TEXT NOT NULL, image_key TEXT NOT NULL, cost_usd REAL, sealed INTEGER, build TEXT);
CREATE TABLE IF NOT EXISTS spent(teacher TEXT PRIMARY KEY, calls INTEGER NOT NULL, cost_usd REAL NOT NULL);
CREATE TRIGGER IF NOT EXISTS call_made AFTER INSERT ON calls BEGIN
  INSERT INTO spent VALUES (new.teacher, 1, coalesce(new.cost_usd, 0)) ON CONFLICT(teacher) DO UPDATE
    SET calls = calls + 1, cost_usd = cost_usd + excluded.cost_usd; END;
CREATE TRIGGER IF NOT EXISTS call_priced AFTER UPDATE OF cost_usd ON calls BEGIN
  UPDATE spent SET cost_usd = cost_usd + coalesce(new.cost_usd, 0) - coalesce(old.cost_usd, 0)
    WHERE teacher = new.teacher; END;
CREATE TABLE IF NOT EXISTS rates(name TEXT PRIMARY KEY, rows INTEGER NOT NULL, seconds REAL NOT NULL);
CREATE INDEX IF NOT EXISTS calls_by_key ON calls(image_key);
CREATE INDEX IF NOT EXISTS calls_by_seal ON calls(sealed);
CREATE TABLE IF NOT EXISTS tasks(image_key TEXT PRIMARY KEY, teacher TEXT NOT NULL, reply BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS batches(
  uid TEXT PRIMARY KEY, teacher TEXT NOT NULL, server TEXT NOT NULL, state TEXT NOT NULL, rows INTEGER NOT NULL,
  rows_left INTEGER NOT NULL, price_usd REAL, per_request INTEGER NOT NULL, file_id TEXT NOT NULL DEFAULT '',
  batch_id TEXT NOT NULL DEFAULT '', status TEXT NOT NULL DEFAULT '', output_id TEXT NOT NULL DEFAULT '',
  errors_id TEXT NOT NULL DEFAULT '', output_at INTEGER NOT NULL DEFAULT 0, errors_at INTEGER NOT NULL DEFAULT 0,
  results INTEGER NOT NULL DEFAULT 0, made_at REAL NOT NULL, tried_at REAL NOT NULL DEFAULT 0,
  missing_since REAL NOT NULL DEFAULT 0, build TEXT NOT NULL);
"""
RAISE = (  # the sums of a teacher, if these are larger
    "INSERT INTO spent(teacher, calls, cost_usd) VALUES (?, ?, ?) ON CONFLICT(teacher) DO UPDATE"
    " SET calls = max(calls, excluded.calls), cost_usd = max(cost_usd, excluded.cost_usd)"
)


class SpoolDatabase:
    """One connection, which all threads of a build share. A new file has pages of `page` bytes.

    Raises DiskFullError if the disk is full, and CacheError if the file can't be read or written.
    """

    def __init__(self, file: Path, page: int = PAGE) -> None:
        self._file = file
        self._lock = threading.RLock()  # of this build's threads, for the connection
        with spool_errors_in_words(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(file, isolation_level=None, timeout=60, check_same_thread=False)
            found = self._connection.execute("PRAGMA user_version").fetchone()[0]
            if found > VERSION:
                raise CacheError(
                    f"{file}: the spool has version {found}, and this armada knows {VERSION}; update armada"
                )
            self._connection.executescript(
                f"PRAGMA page_size={page:d}; PRAGMA auto_vacuum=INCREMENTAL;"
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                "PRAGMA secure_delete=OFF; PRAGMA cache_size=-32768;"  # else sealed pictures are overwritten with zeros
                f"{SCHEMA} PRAGMA user_version={VERSION};"
            )
            page = self._connection.execute("PRAGMA page_size").fetchone()[0]  # an older file has smaller ones
            self._connection.execute(f"PRAGMA wal_autocheckpoint={_LOG // page}")
            self._add_column("rows", "drawn_prompt", "TEXT NOT NULL DEFAULT ''")

    def _add_column(self, table: str, name: str, kind: str) -> None:
        """Add a column that a spool of an earlier armada lacks, which may still write to it."""
        with self.transaction() as db:
            if name not in [column[1] for column in db.execute(f"PRAGMA table_info({table})")]:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit the statements of the block together, or none of them if the block raises."""
        with self._lock, spool_errors_in_words(self._file):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # on a full disk SQLite may have rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    def read(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query; inside a transaction of this thread it sees the transaction's changes."""
        with self._lock, spool_errors_in_words(self._file):
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Give free pages back to the file system, unless another build is writing, and close the connection."""
        with contextlib.suppress(sqlite3.DatabaseError):  # another build is writing; it will shrink the file
            self._connection.executescript("PRAGMA incremental_vacuum")  # `execute` would free only one page
        self._connection.close()


@contextmanager
def spool_errors_in_words(file: Path) -> Iterator[None]:
    """Turn the errors of a spool's file into CacheErrors that name it: a full disk, missing rights, damage."""
    try:
        with disk_errors_in_words(str(file)):
            yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.InterfaceError):
        raise
    except sqlite3.OperationalError as error:
        raise CacheError(
            f"{file}: the spool can't be read or written: {error}; check the disk and the rights"
        ) from error
    except sqlite3.DatabaseError as error:
        raise CacheError(
            f"{file}: the spool is damaged: {error}; run the same command again: it sets the file aside and saves what "
            "can be read of it"
        ) from error


def fault(file: Path) -> str:
    """Return why a spool's file can't be used, or "" if it is sound or does not exist. Reads the whole file."""
    if not file.exists():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection:
            answer = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        raise CacheError(
            f"{file}: the spool can't be read or written: {error}; check the disk and the rights"
        ) from error
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if answer == "ok" else answer
