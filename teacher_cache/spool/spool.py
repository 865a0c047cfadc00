"""The spool: pictures that are drawn but not yet committed, and the ledger of all calls. There is one spool per cache,
user and host; see storage/workspace.py for where it lies.

A picture's bytes, cost and state are written in one transaction, so that a killed build loses only the calls in flight.
A claim belongs to a build, which keeps an OS lock while it runs; the claims of a dead build are free. A call is in the
ledger before it is sent, and its sums never shrink: they count all calls that may have been paid for, and each seal
writes them into the cache's commits. The ledger also records the seal that moved a row into the cache, so that a build
that planned before that seal does not request the picture again.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from teacher_cache.errors import CacheError
from teacher_cache.files.crash_points import crash_point
from teacher_cache.files.disk import DiskFullError
from teacher_cache.format.commits import Spent
from teacher_cache.keys import sha256
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.database import RAISE, SpoolDatabase
from teacher_cache.spool.locks import BuildLocks
from teacher_cache.spool.reserve import Reserve, remove_reserves
from teacher_cache.spool.rows import BYTES, COLUMNS, WANTED_COLUMNS, Claim, SpoolRow, Wanted
from teacher_cache.teachers import Failure, Picture


class StoredError(DiskFullError):
    """The disk is full, and the answers were stored in the place of the reserve."""


class Spool:
    """Shared by all builds of a host on one cache, and by the threads of one build. Use it as a context manager, which
    keeps the build's lock; `spool_opening` opens the one of a cache. `token` names its ledger in the cache's commits.
    """

    def __init__(self, folder: Path, token: str = "") -> None:
        self.token = token
        self.locks = BuildLocks(folder)
        self.sealing = self.locks.sealing
        self.reserve = Reserve(folder, self.locks.owner)
        try:
            self._database = SpoolDatabase(folder / "spool.sqlite")
            if not self.locks.others():
                remove_reserves(folder)
                with contextlib.suppress(DiskFullError):
                    self._forget_sealed_calls()
        except BaseException:
            self.locks.release()
            raise

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.reserve.release()
        with contextlib.suppress(CacheError):  # on a full disk; releasing the lock frees the claims in any case
            self.release()
        self._database.close()
        self.locks.release()

    def _forget_sealed_calls(self) -> None:
        """Delete the calls that only builds that no longer run may ask for; their sums stay."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM calls WHERE sealed IS NOT NULL")

    def claim(self, teacher: str, wanted: Wanted, budget: Budget, planned: int) -> Claim:
        """Reserve one call and its price, before the call is sent.

        Args:
            teacher: The teacher's digest.
            wanted: The picture. If this build has claimed it already, this is one more call for it.
            budget: The caps on all calls ever made for the teacher, with what other ledgers have spent.
            planned: `last_seal()` before the plan was made.

        Returns:
            "granted"; "held" if another running build has claimed the picture; "done" if it was drawn or failed,
            in the spool or in a seal after `planned`; "spent" if the budget does not allow the call.
        """
        request, owner = wanted.request, self.locks.owner
        with self._database.transaction() as db:
            row = db.execute(
                "SELECT state, owner, attempts FROM rows WHERE image_key = ?", (request.image_key,)
            ).fetchone()
            if row and row[0] != "claimed":
                return "done"
            if row and row[1] != owner and self.locks.is_alive(row[1]):
                return "held"
            query = "SELECT 1 FROM calls WHERE image_key = ? AND sealed > ?"
            if not row and db.execute(query, (request.image_key, planned)).fetchone():
                return "done"
            if not budget.allows(*self.spent(teacher, *budget.shared) if budget.is_limited else (0, 0.0)):
                return "spent"
            attempts = 1 + (row[2] if row else wanted.attempts)
            db.execute(
                f"INSERT OR REPLACE INTO rows(image_key, {WANTED_COLUMNS}, teacher, state, owner, attempts)"
                " VALUES (?, ?, ?, ?, ?, ?, 'claimed', ?, ?)",
                (request.image_key, *wanted.columns, teacher, owner, attempts),
            )
            db.execute(
                "INSERT INTO calls(teacher, image_key, cost_usd, build) VALUES (?, ?, ?, ?)",
                (teacher, request.image_key, budget.price_usd, owner),
            )
            crash_point("spool.claim")
        return "granted"

    def record(self, answers: Sequence[Picture | Failure]) -> None:
        """Store answers of a teacher, with bytes, cost and state, in one transaction, which syncs the disk once.

        If the disk is full, they take the place of the reserve, and StoredError is raised: no further call must be
        sent. Raise DiskFullError if they could not be stored.
        """
        try:
            self._store(answers)
        except DiskFullError as error:
            if not self.reserve.release():
                raise
            self._store(answers)
            raise StoredError(str(error)) from error

    def _store(self, answers: Sequence[Picture | Failure]) -> None:
        with self._database.transaction() as db:
            for answer in answers:
                self._record(db, answer)
            crash_point("spool.record")

    def _record(self, db: sqlite3.Connection, answer: Picture | Failure) -> None:
        if isinstance(answer, Picture):
            facts = ("drawn", answer.suffix, sha256(answer.data), "", "")
        else:
            facts = ("failed", "", "", answer.reason, answer.message)
        db.execute(
            "UPDATE rows SET state = ?, suffix = ?, sha256 = ?, reason = ?, message = ?, cost_usd = ?, seconds = ?,"
            " owner = NULL WHERE image_key = ?",
            (*facts, answer.cost_usd, answer.seconds, answer.image_key),
        )
        if isinstance(answer, Picture):
            names = f"teacher, state, {COLUMNS}"
            row = db.execute(f"SELECT {names} FROM rows WHERE image_key = ?", (answer.image_key,)).fetchone()
            text = json.dumps(dict(zip(names.split(", "), row, strict=True)))
            db.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?, ?)", (answer.image_key, text, answer.data))
        self._price(db, answer)

    def note_call(self, teacher: str, image_key: str, price_usd: float | None) -> None:
        """Add a call that no claim is made for, before it is sent: that of a recomputation."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO calls(teacher, image_key, cost_usd, sealed, build) VALUES (?, ?, ?, 0, ?)",
                (teacher, image_key, price_usd, self.locks.owner),
            )

    def note_cost(self, answer: Picture | Failure) -> None:
        """Store the cost of a call whose answer is not recorded; a claim stays, because the build repeats the
        request."""
        with self._database.transaction() as db:
            self._price(db, answer)

    @staticmethod
    def _price(db: sqlite3.Connection, answer: Picture | Failure) -> None:
        if answer.cost_usd is not None:
            query = "UPDATE calls SET cost_usd = ? WHERE id = (SELECT max(id) FROM calls WHERE image_key = ?)"
            db.execute(query, (answer.cost_usd, answer.image_key))

    def release(self) -> None:
        """Delete this build's claims that have no answer. Their calls stay in the ledger."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM rows WHERE state = 'claimed' AND owner = ?", (self.locks.owner,))

    def waiting(self, teacher: str, state: str, limit: int) -> list[SpoolRow]:
        """Return up to `limit` rows of a state, "drawn" or "failed", in the order of their keys."""
        query = f"SELECT {COLUMNS}, {BYTES} FROM rows WHERE teacher = ? AND state = ? ORDER BY image_key LIMIT ?"
        return [SpoolRow(*row) for row in self._database.read(query, teacher, state, limit)]

    def count(self, teacher: str, state: str) -> int:
        """Return the number of rows of a state: "drawn", "failed" or "claimed"."""
        query = "SELECT count(*) FROM rows WHERE teacher = ? AND state = ?"
        return int(self._database.read(query, teacher, state)[0][0])

    def unsealed(self) -> dict[str, int]:
        """Return the number of pictures and failures that are not sealed yet, by the digest of their teacher."""
        query = "SELECT teacher, count(*) FROM rows WHERE state <> 'claimed' GROUP BY teacher"
        return dict(self._database.read(query))

    def pictures(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Yield the pictures of the keys, in their order."""
        for key in keys:
            yield self._database.read("SELECT data FROM pictures WHERE image_key = ?", key)[0][0]

    def last_seal(self) -> int:
        """Return the number of the last seal, 0 before the first one."""
        return int(self._database.read("SELECT coalesce(max(sealed), 0) FROM calls")[0][0])

    def mark_sealed(self, keys: Sequence[str]) -> None:
        """Delete rows that are committed, and record the seal in the ledger.

        Each transaction deletes a few rows, so that claims and answers do not wait for long. A build killed in between
        leaves rows that are in the cache already; the next seal drops them.
        """
        for start in range(0, len(keys), 64):
            with self._database.transaction() as db:
                seal = self.last_seal() + 1
                some = [(key,) for key in keys[start : start + 64]]
                db.executemany(f"UPDATE calls SET sealed = {seal} WHERE image_key = ?", some)
                for table in ("rows", "pictures"):
                    db.executemany(f"DELETE FROM {table} WHERE image_key = ?", some)
                crash_point("spool.sealed")

    def add_rate(self, name: str, rows: int, seconds: float) -> None:
        """Add rows and the seconds that they took on this host, for the estimates of later plans."""
        with self._database.transaction() as db:
            db.execute(
                "INSERT INTO rates VALUES (?, ?, ?) ON CONFLICT(name) DO UPDATE"
                " SET rows = rows + excluded.rows, seconds = seconds + excluded.seconds",
                (name, rows, seconds),
            )

    def seconds_per_row(self, name: str) -> float | None:
        """Return the mean time measured on this host; None if nothing was measured."""
        rows = self._database.read("SELECT seconds / rows FROM rates WHERE name = ? AND rows > 0", name)
        return float(rows[0][0]) if rows else None

    def spent(self, *teachers: str) -> tuple[int, float]:
        """Return all calls ever reserved here for a teacher, or several, and their dollars, 0 without a price."""
        marks = ", ".join("?" * len(teachers))
        query = f"SELECT coalesce(sum(calls), 0), coalesce(sum(cost_usd), 0) FROM spent WHERE teacher IN ({marks})"
        ((calls, usd),) = self._database.read(query, *teachers)
        return int(calls), round(float(usd), 9)

    def spent_by_this_build(self) -> tuple[int, float]:
        """Return the number of calls that this build has reserved, and their cost in dollars."""
        query = "SELECT count(*), coalesce(sum(cost_usd), 0) FROM calls WHERE build = ?"
        ((calls, usd),) = self._database.read(query, self.locks.owner)
        return int(calls), round(float(usd), 9)

    def statement(self) -> list[Spent]:
        """Return what was ever spent here, one record per teacher, for a commit."""
        rows = self._database.read("SELECT teacher, calls, cost_usd FROM spent ORDER BY teacher")
        return [Spent(self.token, teacher, calls, max(0.0, round(usd, 9))) for teacher, calls, usd in rows]

    def raise_to(self, records: Iterable[Spent]) -> None:
        """Raise the sums to those of this ledger's committed records, which are larger if the spool's file was lost."""
        mine = [record for record in records if record.ledger == self.token]
        larger = [r for r in mine if (r.calls, r.cost_usd) > self.spent(r.teacher)]
        if larger:
            with self._database.transaction() as db:
                db.executemany(RAISE, [(r.teacher, r.calls, r.cost_usd) for r in larger])
