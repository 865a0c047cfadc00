"""Sealing: write the rows of the spool into shards, commit the shards, and delete the rows. Several builds take turns.

If a build is killed between the commit and the deletion, the next seal deletes the rows without writing them again.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.format.arrow import one_array
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.shards import FAILURE_COLUMNS, ImageRow
from teacher_cache.format.sources import Source
from teacher_cache.spool.rows import SpoolRow
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.writing import commit_failures, commit_pictures


def seal(
    cache: Cache, spool: Spool, teacher: Source, shard_rows: int, provenance: Provenance, *, again: bool = False
) -> list[pa.Table]:
    """Move a teacher's rows from the spool into committed shards. Returns the index table of each new picture shard.

    Each commit says what was ever spent from the spool's ledger.

    With `again`, rows that are in the cache already are only deleted: their build was killed after its commit.
    """
    indexes = []
    with spool.sealing:
        if again:
            cache.refresh()  # another build may have sealed these rows and not deleted them yet
        known = one_array(cache.images(teacher, [])["image_key"]) if again else pa.array([], pa.string())
        for rows in _batches(spool, teacher, "drawn", shard_rows):
            committed = pc.is_in(pa.array([row.image_key for row in rows]), known).to_pylist()
            new = [row for row, is_committed in zip(rows, committed, strict=True) if not is_committed]
            if new:
                pictures = spool.pictures([row.image_key for row in new])
                indexes.append(
                    commit_pictures(
                        cache, teacher, [_image_row(row) for row in new], pictures, provenance, spent=spool.statement()
                    )
                )
            spool.mark_sealed([row.image_key for row in rows])
        _seal_failures(cache, spool, teacher, shard_rows, provenance)
    return indexes


def _seal_failures(cache: Cache, spool: Spool, teacher: Source, shard_rows: int, provenance: Provenance) -> None:
    for rows in _batches(spool, teacher, "failed", shard_rows):
        columns = [{name: getattr(row, name) for name in FAILURE_COLUMNS.names} for row in rows]
        table = pa.Table.from_pylist(columns, schema=FAILURE_COLUMNS)
        commit_failures(cache, teacher, table, provenance, spent=spool.statement())
        spool.mark_sealed([row.image_key for row in rows])


def _batches(spool: Spool, teacher: Source, state: str, shard_rows: int) -> Iterator[list[SpoolRow]]:
    """Yield the waiting rows, up to `shard_rows` at a time. Rows that arrive meanwhile are left to the next seal, so
    that shards do not become tiny."""
    while rows := spool.waiting(teacher.digest, state, shard_rows):
        yield rows
        if len(rows) < shard_rows:
            return


def _image_row(row: SpoolRow) -> ImageRow:
    return ImageRow(
        image_key=row.image_key,
        prompt_key=row.prompt_key,
        prompt=row.prompt,
        sample=row.sample,
        image_sha256=row.sha256,
        suffix=row.suffix,
        cost_usd=row.cost_usd,
        seconds=row.seconds,
        attempts=row.attempts,
    )
