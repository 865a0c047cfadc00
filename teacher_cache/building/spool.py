"""The spool: pictures drawn but not yet committed, and the ledger of every call, in one SQLite file a cache a machine.

One transaction holds a picture's bytes, its cost and its state, so that a kill loses only the calls in flight. A claim
belongs to a build; a build holds an OS lock while it lives, so the claims of a dead one are free. Ledger rows are
written before the call is sent and are never deleted: they are the count of calls that may have been paid. Each also
says in which seal its row went into the cache, so that a build that planned before that seal doesn't ask again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from teacher_cache.building.options import Budget
from teacher_cache.errors import CacheError
from teacher_cache.keys import sha256
from teacher_cache.storage.crash_points import crash_point
from teacher_cache.storage.disk import full_disk_in_words
from teacher_cache.teachers import Failure, Picture, Request

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rows(
  image_key TEXT PRIMARY KEY, teacher TEXT NOT NULL, prompt TEXT NOT NULL, prompt_key TEXT NOT NULL,
  sample INTEGER NOT NULL, state TEXT NOT NULL CHECK(state IN ('claimed', 'drawn', 'failed')), owner TEXT,
  attempts INTEGER NOT NULL, suffix TEXT, sha256 TEXT, cost_usd REAL, seconds REAL, reason TEXT, message TEXT);
CREATE INDEX IF NOT EXISTS rows_by_state ON rows(teacher, state);
CREATE TABLE IF NOT EXISTS pictures(image_key TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS calls(
  id INTEGER PRIMARY KEY, teacher TEXT NOT NULL, image_key TEXT NOT NULL, cost_usd REAL, sealed INTEGER);
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
"""


@dataclass(frozen=True)
class Wanted:
    """A request with what the cache records beside its picture."""

    request: Request
    prompt_key: str
    attempts: int = 0  # calls already made for it, from its failure


@dataclass(frozen=True)
class SpoolRow:
    """A drawn or failed row, waiting to be sealed."""

    image_key: str
    prompt: str
    prompt_key: str
    sample: int
    attempts: int
    suffix: str
    sha256: str
    cost_usd: float | None
    seconds: float
    reason: str
    message: str


_COLUMNS = "image_key, prompt, prompt_key, sample, attempts, suffix, sha256, cost_usd, seconds, reason, message"


class Spool:
    """Shared by all builds of a machine on one cache, and by the threads of one build. Use as a context manager: it
    holds the build's lock."""

    def __init__(self, folder: Path) -> None:
        self._locks = folder / "locks"
        self._locks.mkdir(parents=True, exist_ok=True)
        self.owner = uuid.uuid4().hex
        self._alive = FileLock(self._locks / f"{self.owner}.lock")
        self.sealing = FileLock(self._locks / "sealing.lock")
        self._file = folder / "spool.sqlite"
        self._turn = threading.RLock()  # of this build's threads, on its one connection
        with full_disk_in_words(str(self._file)):
            self._db = sqlite3.connect(self._file, isolation_level=None, timeout=60, check_same_thread=False)
            self._db.executescript(
                "PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA
            )

    def __enter__(self) -> Spool:
        self._alive.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(CacheError):  # on a full disk; the lock goes in any case, and the claims with it
            self.release()
        with contextlib.suppress(sqlite3.OperationalError):  # another build is writing; it will shrink the file
            self._db.executescript("PRAGMA incremental_vacuum")  # `execute` would free one page only
        self._db.close()
        self._alive.release()
        Path(self._alive.lock_file).unlink(missing_ok=True)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn, full_disk_in_words(str(self._file)):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite may have rolled back itself, on a full disk
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._turn:
            return self._db.execute(query, values).fetchall()

    def claim(self, teacher: str, wanted: Wanted, budget: Budget, planned: int) -> str:
        """Reserve one call and its price. "granted"; "held" by another living build; "done": drawn or failed, here or
        in a seal after `planned` (`last_seal` before the plan was made); or "spent": the budget, over all that was
        ever called here for this teacher, doesn't allow it. This build's own claim is one more call for it."""
        request = wanted.request
        with self._transaction() as db:
            row = db.execute(
                "SELECT state, owner, attempts FROM rows WHERE image_key = ?", (request.image_key,)
            ).fetchone()
            if row and row[0] != "claimed":
                return "done"
            if row and row[1] != self.owner and self._is_alive(row[1]):
                return "held"
            query = "SELECT 1 FROM calls WHERE image_key = ? AND sealed > ?"
            if not row and db.execute(query, (request.image_key, planned)).fetchone():
                return "done"
            if not budget.allows(*self._spent(db, teacher) if budget.is_limited else (0, 0.0)):
                return "spent"
            attempts = 1 + (row[2] if row else wanted.attempts)
            db.execute(
                "INSERT OR REPLACE INTO rows(image_key, teacher, prompt, prompt_key, sample, state, owner, attempts)"
                " VALUES (?, ?, ?, ?, ?, 'claimed', ?, ?)",
                (request.image_key, teacher, request.prompt, wanted.prompt_key, request.sample, self.owner, attempts),
            )
            db.execute(
                "INSERT INTO calls(teacher, image_key, cost_usd) VALUES (?, ?, ?)",
                (teacher, request.image_key, budget.price_usd),
            )
            crash_point("spool.claim")
        return "granted"

    def _is_alive(self, owner: str) -> bool:
        path = self._locks / f"{owner}.lock"
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
                return False
        except Timeout:
            return True

    def record(self, answers: Sequence[Picture | Failure]) -> None:
        """Keep a teacher's answers, with bytes, cost and state, in one transaction: one sync of the disk for as many as
        have come since the last."""
        with self._transaction() as db:
            for answer in answers:
                self._record(db, answer)
            crash_point("spool.record")

    def _record(self, db: sqlite3.Connection, answer: Picture | Failure) -> None:
        if isinstance(answer, Picture):
            db.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?)", (answer.image_key, answer.data))
            facts = ("drawn", answer.suffix, sha256(answer.data), "", "")
        else:
            facts = ("failed", "", "", answer.reason, answer.message)
        db.execute(
            "UPDATE rows SET state = ?, suffix = ?, sha256 = ?, reason = ?, message = ?, cost_usd = ?, seconds = ?,"
            " owner = NULL WHERE image_key = ?",
            (*facts, answer.cost_usd, answer.seconds, answer.image_key),
        )
        self._price(db, answer)

    def note_cost(self, failure: Failure) -> None:
        """Keep what a failed call cost; the claim stays, since the build asks again."""
        with self._transaction() as db:
            self._price(db, failure)

    @staticmethod
    def _price(db: sqlite3.Connection, answer: Picture | Failure) -> None:
        if answer.cost_usd is not None:
            query = "UPDATE calls SET cost_usd = ? WHERE id = (SELECT max(id) FROM calls WHERE image_key = ?)"
            db.execute(query, (answer.cost_usd, answer.image_key))

    def release(self) -> None:
        """Give up the claims that this build holds and didn't get an answer for; their calls stay in the ledger."""
        with self._transaction() as db:
            db.execute("DELETE FROM rows WHERE state = 'claimed' AND owner = ?", (self.owner,))

    def waiting(self, teacher: str, state: str, limit: int) -> list[SpoolRow]:
        """Up to `limit` rows, "drawn" or "failed", in the order of their keys."""
        query = f"SELECT {_COLUMNS} FROM rows WHERE teacher = ? AND state = ? ORDER BY image_key LIMIT ?"
        return [SpoolRow(*row) for row in self._read(query, teacher, state, limit)]

    def count(self, teacher: str, state: str) -> int:
        """How many rows are "drawn", "failed" or "claimed"."""
        return int(self._read("SELECT count(*) FROM rows WHERE teacher = ? AND state = ?", teacher, state)[0][0])

    def pictures(self, keys: Sequence[str]) -> Iterator[bytes]:
        """The pictures of these keys, one after the other in this order."""
        for key in keys:
            yield self._read("SELECT data FROM pictures WHERE image_key = ?", key)[0][0]

    def last_seal(self) -> int:
        """The number of the last seal, 0 before the first."""
        return int(self._read("SELECT coalesce(max(sealed), 0) FROM calls")[0][0])

    def mark_sealed(self, keys: Sequence[str]) -> None:
        """Drop rows that are committed. The ledger keeps their calls and notes the seal. A few at a time, so that the
        build's claims and answers need not wait; a kill in between leaves rows that the cache has, and nothing else."""
        for start in range(0, len(keys), 64):
            with self._transaction() as db:
                seal = self.last_seal() + 1
                some = [(key,) for key in keys[start : start + 64]]
                db.executemany(f"UPDATE calls SET sealed = {seal} WHERE image_key = ?", some)
                for table in ("rows", "pictures"):
                    db.executemany(f"DELETE FROM {table} WHERE image_key = ?", some)
                crash_point("spool.sealed")

    def add_rate(self, name: str, rows: int, seconds: float) -> None:
        """Count rows and the seconds that they took here, for plans to come."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO rates VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE"
                " SET rows = rows + excluded.rows, seconds = seconds + excluded.seconds",
                (name, rows, seconds),
            )

    def seconds_a_row(self, name: str) -> float | None:
        """The mean measured here; None where nothing was."""
        rows = self._read("SELECT seconds / rows FROM rates WHERE name = ? AND rows > 0", name)
        return float(rows[0][0]) if rows else None

    def spent(self, teacher: str) -> tuple[int, float]:
        """Calls ever reserved here for a teacher, and their cost in dollars (0 where it has no price)."""
        with self._turn:
            return self._spent(self._db, teacher)

    @staticmethod
    def _spent(db: sqlite3.Connection, teacher: str) -> tuple[int, float]:
        row = db.execute("SELECT calls, cost_usd FROM spent WHERE teacher = ?", (teacher,)).fetchone()
        return (int(row[0]), round(row[1], 9)) if row else (0, 0.0)
