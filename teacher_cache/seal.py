"""Sealing: what the spool holds becomes shards, and the shards are committed. Several builds take turns.

A kill between the commit and the spool's cleaning repeats nothing: rows that the cache has are only dropped.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

import pyarrow as pa

from teacher_cache.cache import Cache, Source
from teacher_cache.shards import FAILURE_COLUMNS, ImageRow, write_images
from teacher_cache.spool import Spool, SpoolRow


def seal(
    cache: Cache, spool: Spool, source: Source, shard_rows: int, clock: Callable[[], float], *, again: bool = False
) -> None:
    """Move what the spool holds for a teacher into shards and commit them; several builds take turns.

    With `again`, rows that are in the cache already are only dropped: their build was killed after its commit.
    """
    with spool.sealing:
        known = frozenset(cache.images(source)["image_key"].to_pylist() if again and spool.teachers() else ())
        while rows := spool.waiting(source.digest, "drawn", shard_rows):
            fresh = [row for row in rows if row.image_key not in known]
            if fresh:
                _commit_pictures(cache, spool, source, fresh, clock)
            spool.mark_sealed([row.image_key for row in rows])
        while rows := spool.waiting(source.digest, "failed", shard_rows):
            columns = [{name: getattr(row, name) for name in FAILURE_COLUMNS.names} for row in rows]
            table = pa.Table.from_pylist(columns, schema=FAILURE_COLUMNS)
            cache.commit([cache.write_shard(f"failures/{source.name}", table)], **signature(clock))
            spool.mark_sealed([row.image_key for row in rows])


def _commit_pictures(
    cache: Cache, spool: Spool, source: Source, rows: Sequence[SpoolRow], clock: Callable[[], float]
) -> None:
    folder = f"images/{source.name}/shards"
    facts = [
        ImageRow(
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
        for row in rows
    ]
    with cache.store.draft() as draft:
        index = write_images(draft, facts, spool.pictures([row.image_key for row in rows]))
        tar = cache.add(draft, folder, ".tar", len(rows))
    name = tar.path.rpartition("/")[2].removesuffix(".tar")
    cache.commit([tar, cache.write_shard(folder, index, name)], **signature(clock))


def signature(clock: Callable[[], float]) -> dict[str, str]:
    """Who and when, for a commit."""
    at = datetime.fromtimestamp(clock(), timezone.utc).isoformat(timespec="seconds")
    return {"by": f"{getpass.getuser()}@{socket.gethostname()}", "at": at}
