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
from teacher_cache.spool.rows import BYTES, COLUMNS, Claim, Claims, SpoolRow, Wanted
from teacher_cache.spool.statements import RESERVED, SPENT, Answered, claim_all, give_back, price_all, spent, store_all
from teacher_cache.teachers import Failure, Picture

_READ = 16  # pictures that are read together


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
        """Reserve one call and its price, before the call is sent; see `claim_all`."""
        return self.claim_all(Claims(teacher, [wanted], budget, planned))[0]

    def claim_all(self, claims: Claims) -> list[Claim]:
        """Reserve one call per picture and its price, before the calls are sent, in one transaction. If this build has
        claimed a picture already, this is one more call for it.

        Returns for each picture:
            "granted"; "held" if another running build has claimed it; "in a batch" if a provider's batch will bring it;
            "done" if it was drawn or failed, in the spool or in a seal after `claims.planned`; "spent" if the budget
            does not allow the call.
        """
        return self.write(claims, [], [])

    def record(self, answers: Sequence[Picture | Failure]) -> None:
        """Store answers of a teacher, with bytes, cost and state; see `write`."""
        self.write(None, [(answer, sha256(answer.data) if isinstance(answer, Picture) else "") for answer in answers])

    def write(
        self, claims: Claims | None, answers: Sequence[Answered], costs: Sequence[Picture | Failure] = ()
    ) -> list[Claim]:
        """Store answers, then the costs of answers that are not stored (see `note_cost`), then make claims, all in one
        transaction, which syncs the disk once. Return what became of the claims.

        If the disk is full, the answers take the place of the reserve, no claim is made, and StoredError is raised: no
        further call must be sent. Raise DiskFullError if the answers could not be stored.
        """
        try:
            return self._write(claims, answers, costs)
        except DiskFullError as error:
            if not answers or not self.reserve.release():
                raise
            self._write(None, answers, costs)
            raise StoredError(str(error)) from error

    def _write(
        self, claims: Claims | None, answers: Sequence[Answered], costs: Sequence[Picture | Failure]
    ) -> list[Claim]:
        made: list[Claim] = []
        with self._database.transaction() as db:
            if answers:
                store_all(db, answers)
                crash_point("spool.record")
            price_all(db, costs)
            if claims and claims.wanted:
                made = claim_all(db, claims, self.locks.owner, self.locks.is_alive)
                crash_point("spool.claim")
        return made

    def give_back(self, teacher: str, keys: Sequence[str]) -> None:
        """Undo this build's last claim of each key, whose call was not sent and never will be: the sums get smaller."""
        with self._database.transaction() as db:
            give_back(db, self.locks.owner, teacher, keys)

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
        self.write(None, [], [answer])

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
        for start in range(0, len(keys), _READ):
            some = keys[start : start + _READ]
            query = f"SELECT image_key, data FROM pictures WHERE image_key IN ({', '.join('?' * len(some))})"
            found = dict(self._database.read(query, *some))
            yield from map(found.__getitem__, some)

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
        return self._sum(SPENT, teachers)

    def reserved(self, *teachers: str) -> tuple[int, float]:
        """Return the number of requests in batches whose results are not here yet, and the dollars reserved for them.
        They are in the ledger as soon as it is known whether they were made."""
        return self._sum(RESERVED, teachers)

    def spent_or_reserved(self, *teachers: str) -> tuple[int, float]:
        """Return the calls and dollars that count against a budget."""
        (calls, usd), (rows, reserved_usd) = self.spent(*teachers), self.reserved(*teachers)
        return calls + rows, round(usd + reserved_usd, 9)

    def _sum(self, query: str, teachers: Sequence[str]) -> tuple[int, float]:
        found = [spent(self._database.read(query, teacher)) for teacher in teachers]
        return sum(calls for calls, _ in found), round(sum(usd for _, usd in found), 9)

    @property
    def database(self) -> SpoolDatabase:
        """The tables, for those who change several of them in one transaction."""
        return self._database

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
