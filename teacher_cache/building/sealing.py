"""Sealing: write the rows of the spool into shards, commit the shards, and delete the rows. Several builds take turns.

If a build is killed between the commit and the deletion, the next seal deletes the rows without writing them again.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from teacher_cache.building.options import BuildOptions
from teacher_cache.format.columns import FAILURE_COLUMNS
from teacher_cache.format.digests import from_hex
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.shards import ImageRow
from teacher_cache.format.sources import Source
from teacher_cache.spool.rows import SpoolRow
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import picture_index
from teacher_cache.storage.writing import commit_failures, commit_pictures

if TYPE_CHECKING:
    from teacher_cache.building.other_hosts import OtherHosts


class Sealer(Protocol):
    """What seals drawn rows in the background, and knows what other hosts have committed and spent."""

    cache: Cache
    spent_elsewhere: tuple[int, float]

    @property
    def others(self) -> OtherHosts: ...

    @property
    def is_sealing(self) -> bool: ...

    def seal(self) -> None: ...


@dataclass
class SealTimes:
    """Begins the seals of a build when they are due: every `options.seal_seconds` on the clock, and as soon as
    `options.seal_rows` pictures of the teacher (its digest) wait, which builds beside this one may have drawn."""

    spool: Spool
    teacher: str
    options: BuildOptions
    clock: Callable[[], float]
    _stored: int = 0  # pictures of this build since the last seal began
    _counted_at: float = float("-inf")  # on the monotonic clock
    _has_begun: bool = False  # whether the last seal was not seen to be over

    def __post_init__(self) -> None:
        self._sealed_at = self.clock()

    def seal_if_due(self, sealer: Sealer, stored: int) -> None:
        """Begin a seal if one is due and none runs, after this build has stored so many more pictures."""
        self._stored += stored
        if sealer.is_sealing:
            return
        if self._has_begun:  # that seal is over; if it failed, its rows wait still, and `seal` tells
            self._has_begun, self._counted_at = False, float("-inf")
        if self._is_due():
            sealer.seal()
            self._stored, self._sealed_at, self._has_begun = 0, self.clock(), True

    def _is_due(self) -> bool:
        """Ask the spool, where claims and answers would wait for it, once a second, after each seal, and if this build
        alone has stored enough."""
        if self.clock() - self._sealed_at >= self.options.seal_seconds:
            return True
        now = time.monotonic()
        if self._stored < self.options.seal_rows and now - self._counted_at < 1:
            return False
        self._counted_at = now
        return self.spool.count(self.teacher, "drawn") >= self.options.seal_rows


def seal(
    cache: Cache, spool: Spool, teacher: Source, options: BuildOptions, provenance: Provenance, *, again: bool = False
) -> list[pa.Table]:
    """Move a teacher's rows from the spool into committed shards, which have at most `options.shard_rows` rows and
    `options.shard_bytes` bytes of pictures. Returns the index table of each new picture shard.

    Each commit says what was ever spent from the spool's ledger.

    With `again`, rows that are in the cache already are only deleted: their build was killed after its commit.
    """
    indexes = []
    with spool.sealing:
        if again:
            cache.refresh()  # another build may have sealed these rows and not deleted them yet
        known = picture_index(cache, teacher) if again else None
        for rows in batches(spool, teacher, "drawn", options):
            new = rows
            if known:
                places = known.find(from_hex([row.image_key for row in rows], "the spool"))
                new = [row for row, place in zip(rows, places.tolist(), strict=True) if place < 0]
            if new:
                pictures = spool.pictures([row.image_key for row in new])
                indexes.append(
                    commit_pictures(
                        cache, teacher, [_image_row(row) for row in new], pictures, provenance, spent=spool.statement()
                    )
                )
            spool.mark_sealed([row.image_key for row in rows])
        seal_failures(cache, spool, teacher, options, provenance)
    return indexes


def seal_failures(cache: Cache, spool: Spool, teacher: Source, options: BuildOptions, provenance: Provenance) -> None:
    """Move the failures of a teacher or a rewriter from the spool into committed shards. The caller holds the lock."""
    for rows in batches(spool, teacher, "failed", options):
        columns = [{name: getattr(row, name) for name in FAILURE_COLUMNS.names} for row in rows]
        table = pa.Table.from_pylist(columns, schema=FAILURE_COLUMNS)
        commit_failures(cache, teacher, table, provenance, spent=spool.statement())
        spool.mark_sealed([row.image_key for row in rows])


def batches(spool: Spool, teacher: Source, state: str, options: BuildOptions) -> Iterator[list[SpoolRow]]:
    """Yield the waiting rows of one shard after the other. Rows that arrive meanwhile are left to the next seal, so
    that shards do not become tiny."""
    while waiting := spool.waiting(teacher.digest, state, options.shard_rows):
        sizes = itertools.accumulate(row.bytes for row in waiting)
        fitting = sum(size <= options.shard_bytes for size in sizes)
        yield waiting[: max(1, fitting)]
        if fitting == len(waiting) < options.shard_rows:
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
        drawn_prompt=row.drawn_prompt,
    )
