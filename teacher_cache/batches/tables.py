"""The batches in the spool: each step is one transaction with the rows that it concerns.

A row belongs to a batch from the moment in which its price is reserved until its answer, or the knowledge that it was
never drawn, is stored. So a kill at any moment leaves each row with one owner, and each result is counted once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from teacher_cache.batches.records import COLUMNS, Batch, Reserved
from teacher_cache.files.crash_points import crash_point
from teacher_cache.keys import seed_of, sha256
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.locks import BATCH
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool
from teacher_cache.spool.statements import insert_rows, store_all
from teacher_cache.teachers import Failure, Picture, Request


@dataclass
class Settled:
    """Answers to some rows of a batch: final ones, failures that are requested again as a new call (`again`), and the
    keys of requests that were never made (`unsent`). `results` counts the requests that the provider answered."""

    final: list[Picture | Failure] = field(default_factory=list)
    again: list[Failure] = field(default_factory=list)
    unsent: list[str] = field(default_factory=list)
    results: int = 0

    def __len__(self) -> int:
        return len(self.final) + len(self.again) + len(self.unsent)


class BatchTables:
    """The batches of one spool; `build` is the owner of this build's lock."""

    def __init__(self, spool: Spool, clock: Callable[[], float]) -> None:
        self._spool, self._db, self._clock = spool, spool.database, clock
        self.build = spool.locks.owner

    def reserve(
        self,
        teacher: str,
        server: str,
        wanted: Sequence[Wanted],
        budget: Budget,
        planned: int,
        per_request: int,
        **known: Any,
    ) -> Reserved:
        """Claim the wanted rows that are free for a new batch, and reserve its whole price. See `Spool.claim`. `known`
        are facts of a batch that the provider has already, its uid among them."""
        uid = known.setdefault("uid", secrets.token_hex(16))
        held: list[Wanted] = []
        granted: list[tuple[Wanted, int]] = []
        seen: set[str] = set()
        taken, is_spent = 0, False
        with self._db.transaction() as db:
            calls, usd = self._spool.spent_or_reserved(teacher, *budget.shared)
            for taken, one in enumerate(wanted, 1):
                key = one.request.image_key
                if key in seen:
                    continue
                seen.add(key)
                row = db.execute("SELECT state, owner, attempts FROM rows WHERE image_key = ?", (key,)).fetchone()
                if row and row[0] != "claimed":
                    continue
                if row and row[1] != self.build and self._spool.locks.is_alive(row[1]):
                    held.append(one)
                    continue
                query = "SELECT 1 FROM calls WHERE image_key = ? AND sealed > ?"
                if not row and db.execute(query, (key, planned)).fetchone():
                    continue
                if not budget.allows(calls, usd):
                    taken, is_spent = taken - 1, True
                    break
                calls, usd = calls + 1, usd + (budget.price_usd or 0.0)
                granted.append((one, 1 + (row[2] if row else one.attempts)))
            insert_rows(db, teacher, granted, BATCH + uid)
            rows = len(granted)
            if rows:
                facts = {"teacher": teacher, "server": server, "state": "reserved", "rows": rows, "rows_left": rows}
                facts |= {"price_usd": budget.price_usd, "per_request": per_request, "made_at": self._clock()}
                facts |= {"build": self.build, **known}
                marks = ", ".join("?" * len(facts))
                db.execute(f"INSERT INTO batches({', '.join(facts)}) VALUES ({marks})", tuple(facts.values()))
            crash_point("batch.reserve")
        return Reserved(self.get(uid) if rows else None, taken, tuple(held), is_spent)

    def get(self, uid: str) -> Batch:
        """Return a batch as it is now."""
        return Batch(*self._db.read(f"SELECT {COLUMNS} FROM batches WHERE uid = ?", uid)[0])

    def batches(self, teacher: str) -> list[Batch]:
        """Return a teacher's batches, the oldest first."""
        rows = self._db.read(f"SELECT {COLUMNS} FROM batches WHERE teacher = ? ORDER BY made_at, uid", teacher)
        return [Batch(*row) for row in rows]

    def take(self, batch: Batch) -> bool:
        """Handle a batch in this build, unless another build that runs handles it. Return whether."""
        with self._db.transaction() as db:
            row = db.execute("SELECT build FROM batches WHERE uid = ?", (batch.uid,)).fetchone()
            if row is None or (row[0] != self.build and self._spool.locks.is_alive(row[0])):
                return False
            db.execute("UPDATE batches SET build = ? WHERE uid = ?", (self.build, batch.uid))
        return True

    def update(self, batch: Batch, **facts: Any) -> Batch:
        """Store facts of a batch, and return it as it is then."""
        with self._db.transaction() as db:
            names = ", ".join(f"{name} = ?" for name in facts)
            db.execute(f"UPDATE batches SET {names} WHERE uid = ?", (*facts.values(), batch.uid))
        return self.get(batch.uid)

    def rows(self, batch: Batch) -> list[Wanted]:
        """Return the rows of a batch that have no answer, in the order of its file."""
        found = []
        with self._db.transaction() as db:
            cursor = db.execute(
                "SELECT * FROM rows WHERE owner = ? AND state = 'claimed' ORDER BY prompt_key, sample, image_key",
                (batch.owner,),
            )
            names = [column[0] for column in cursor.description]
            for values in cursor:
                facts = dict(zip(names, values, strict=True))
                key, prompt = facts["image_key"], facts.get("drawn_prompt") or facts["prompt"]
                recipe = {"recipe_text": facts["prompt"]} if facts.get("drawn_prompt") else {}
                request = Request(key, prompt, facts["sample"], seed_of(key))
                found.append(Wanted(request, facts["prompt_key"], facts["attempts"] - 1, **recipe))
        return found

    def settle(self, batch: Batch, settled: Settled, **facts: Any) -> Batch:
        """Store answers to rows of a batch, and facts of it, together: pictures and failures as those of a call, which
        is now in the ledger. Rows that are requested again, or were never sent, are free. Answers to rows that the
        batch does not have any more are dropped, so that the same results may be read twice."""
        with self._db.transaction() as db:
            query = "SELECT image_key FROM rows WHERE owner = ? AND state = 'claimed'"
            left = {key for (key,) in db.execute(query, (batch.owner,))}
            final = [answer for answer in settled.final if answer.image_key in left]
            again = [answer for answer in settled.again if answer.image_key in left]
            unsent = [key for key in settled.unsent if key in left]
            calls = [(batch.teacher, a.image_key, a.cost_usd, self.build) for a in [*final, *again]]
            db.executemany("INSERT INTO calls(teacher, image_key, cost_usd, build) VALUES (?, ?, ?, ?)", calls)
            store_all(db, [(a, sha256(a.data) if isinstance(a, Picture) else "") for a in final])
            keys = [(answer.image_key,) for answer in again]
            db.executemany("UPDATE rows SET owner = '' WHERE image_key = ?", keys)
            db.executemany("DELETE FROM rows WHERE image_key = ?", [(key,) for key in unsent])
            facts = {**facts, "results": batch.results + settled.results}
            names = ", ".join(f"{name} = ?" for name in facts)
            db.execute(
                f"UPDATE batches SET rows_left = rows_left - ?, {names} WHERE uid = ?",
                (len(calls) + len(unsent), *facts.values(), batch.uid),
            )
            crash_point("batch.record")
        return self.get(batch.uid)

    def forget(self, batch: Batch) -> None:
        """Delete a batch of which nothing is left to do, or that was never accepted; its rows are free."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM rows WHERE owner = ? AND state = 'claimed'", (batch.owner,))
            db.execute("DELETE FROM batches WHERE uid = ?", (batch.uid,))


def keys_in_batches(spool: Spool, teacher: str) -> list[str]:
    """Return the image keys of a teacher whose pictures are in a batch that has not brought them yet."""
    query = "SELECT image_key FROM rows WHERE teacher = ? AND state = 'claimed' AND owner >= ? AND owner < ?"
    return [key for (key,) in spool.database.read(query, teacher, BATCH, BATCH + "g")]


def requests_by_status(spool: Spool, teacher: str) -> dict[str, int]:
    """Return how many of a teacher's pictures are in batches without results, by the provider's status."""
    query = (
        "SELECT CASE WHEN state = 'open' AND status <> '' THEN status ELSE state END, sum(rows_left) FROM batches"
        " WHERE teacher = ? AND rows_left > 0 GROUP BY 1"
    )
    return {str(status): int(rows) for status, rows in spool.database.read(query, teacher)}
