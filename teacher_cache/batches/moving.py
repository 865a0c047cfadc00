"""Moving batches from the spool of a cache that was moved into that of the cache where it is now."""

from __future__ import annotations

from dataclasses import astuple

from teacher_cache.batches.records import COLUMNS, Batch
from teacher_cache.spool.rows import COLUMNS as ROW_COLUMNS
from teacher_cache.spool.spool import Spool

_ROWS = f"teacher, state, owner, {ROW_COLUMNS}"


def move_batches(source: Spool, target: Spool) -> int:
    """Move all batches with their rows, and return how many. A move that is killed is repeated by the next build,
    before anything is done to the batches: they are in one spool again then."""
    batches = [Batch(*row) for row in source.database.read(f"SELECT {COLUMNS} FROM batches")]
    for batch in batches:
        rows = source.database.read(f"SELECT {_ROWS} FROM rows WHERE owner = ?", batch.owner)
        with target.database.transaction() as db:
            marks = ", ".join("?" * len(astuple(batch)))
            db.execute(f"INSERT OR REPLACE INTO batches({COLUMNS}) VALUES ({marks})", astuple(batch))
            marks = ", ".join("?" * len(_ROWS.split(",")))
            db.executemany(f"INSERT OR IGNORE INTO rows({_ROWS}) VALUES ({marks})", rows)
        with source.database.transaction() as db:
            db.execute("DELETE FROM rows WHERE owner = ?", (batch.owner,))
            db.execute("DELETE FROM batches WHERE uid = ?", (batch.uid,))
    return len(batches)
