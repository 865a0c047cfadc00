"""Where features come from: a matrix mapped into memory, or, where that would be too large, the shards themselves.

Both give the same rows, and each row is compared with its checksum every time it is taken: no other row is ever given.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from teacher_cache.cache import Cache
from teacher_cache.decoding import threads_for
from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.feature_shard import open_shard
from teacher_cache.gather import Gatherer, sums_of
from teacher_cache.key_table import KEY, KeyTable, row_sums
from teacher_cache.matrices import Held
from teacher_cache.snapshot import Snapshot

_BLOCK = 2048  # rows taken and checked together: they stay in the processor's cache
_PIECE = 8 << 20  # bytes read ahead at once
_SAMPLE = 64  # pages asked after


class Rows(Protocol):
    """(N, L) features of one number type, taken by row number."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        ...

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The features (B, L) of rows (B,), into `out` where it is given. Raises CacheError where one was damaged."""
        ...

    def warm(self) -> None:
        """Make the next takes fast, where something can be done for it."""
        ...


@dataclass(frozen=True)
class MappedRows:
    """A matrix mapped into memory. `held` keeps its file; damage sets that aside, so that it is decoded anew."""

    matrix: np.ndarray  # (N, L), read-only
    sums: np.ndarray
    held: Held | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return self.matrix.dtype

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See Rows; at two thirds of the speed of a gather in memory once the file is there."""
        if rows.astype(np.uint64).max(initial=0) >= max(1, len(self.matrix)):  # a negative one is very large
            raise IndexError(f"rows from {rows.min()} to {rows.max()}, of {len(self.matrix)}")
        taken = np.empty((len(rows), self.shape[1]), self.dtype) if out is None else out
        for start in range(0, len(rows), _BLOCK):
            part, block = rows[start : start + _BLOCK], taken[start : start + _BLOCK]
            self._gatherer.take(part, block)
            if (sums_of(block) != self.sums.take(part)).any():
                raise damaged(self.held, str(getattr(self.matrix, "filename", "the decoded features")))
        return taken

    @cached_property
    def _gatherer(self) -> Gatherer:
        return Gatherer(self.matrix)

    def warm(self) -> None:
        """Read the file once from front to back where it isn't in memory: a cold random row costs a seek, and a
        hundred times its share of this."""
        path = Path(str(getattr(self.matrix, "filename", "")))
        if path.is_file() and not _is_resident(path):
            scratch = bytearray(_PIECE)
            with path.open("rb", buffering=0) as stream:
                while stream.readinto(scratch):
                    pass


@dataclass(frozen=True)
class ShardRows:
    """The shards themselves, decoded anew each time: for windows of rows that lie in few shards, not for batches.

    Where a shard was removed since (someone compacted), the rows are found again by key with `reopen`, and have to be
    the same.
    """

    cache: Cache
    snapshot: Snapshot
    table: KeyTable
    sums: np.ndarray
    sound: np.ndarray  # (N,) bool: finite and of some length
    places: np.ndarray  # (N,) int64: where a row stands among all rows of all feature shards
    reopen: Callable[[], tuple[KeyTable, Rows]]  # what the cache holds by then
    held: Held | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return len(self.sums), self.snapshot.dimension

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return self.snapshot.dtype

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(shard.rows for shard in self.snapshot.features)])

    def shards_of(self, rows: np.ndarray) -> np.ndarray:
        """The number of the shard in which each row lies, (B,) int64."""
        numbers = np.searchsorted(self._starts, self.places[rows], side="right") - 1
        inside: np.ndarray = np.clip(numbers, 0, len(self._starts) - 2)  # a damaged place is found when it is used
        return inside

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See Rows. Every shard that holds a wanted row is read and checked once."""
        taken = np.empty((len(rows), self.shape[1]), self.dtype) if out is None else out
        numbers = self.shards_of(rows)
        order = np.argsort(numbers, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        work = partial(self._take_from, numbers, rows, taken)
        if len(groups) == 1:
            work(order)
        else:
            with ThreadPoolExecutor(threads_for(self.cache), "armada-window") as pool:
                list(pool.map(work, groups))
        return taken

    def warm(self) -> None:
        """Nothing to do: shards are read from front to back."""

    def _take_from(self, numbers: np.ndarray, rows: np.ndarray, taken: np.ndarray, group: np.ndarray) -> None:
        if not len(group):
            return
        number = int(numbers[group[0]])
        shard = self.snapshot.features[number]
        try:
            opened = open_shard(self.cache, self.snapshot, shard)
        except NoFileError:
            taken[group] = self._elsewhere(rows[group])
            return
        at = np.clip(self.places[rows[group]] - self._starts[number], 0, shard.rows - 1)
        ascending = np.argsort(at)
        group, at = group[ascending], at[ascending]
        start = 0
        for features in opened.blocks():
            first, last = np.searchsorted(at, (start, start + len(features)))
            here, block = group[first:last], features[at[first:last] - start]
            if (row_sums(block) != self.sums[rows[here]]).any():
                raise damaged(self.held, self.table.where)
            taken[here] = block
            start += len(features)

    def _elsewhere(self, rows: np.ndarray) -> np.ndarray:
        table, source = self.reopen()
        facts = self.table.checked(rows)
        found = table.find(facts[:, KEY])
        if (found >= 0).all():
            features = source.take(found)
            if (row_sums(features) == self.sums[rows]).all():
                return features
        raise NoFileError(
            f"{self.cache.store}: a shard was removed since it was opened, and {len(rows)} of its rows are gone or "
            "changed; run the build, and then the same command again"
        )


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of others, in an order of their own, taken when they are asked for."""

    source: Rows
    places: np.ndarray  # (N,) int64: their numbers there

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return len(self.places), self.source.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return self.source.dtype

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See Rows."""
        return self.source.take(self.places.take(rows), out)

    def warm(self) -> None:
        """See Rows."""
        self.source.warm()


def damaged(held: Held | None, where: str) -> CacheError:
    """Set a folder aside, so that it is decoded anew; returns the error that says so."""
    if held:
        held.set_aside()
    return CacheError(
        f"{where}: rows differ from their checksums: the file was damaged since it was decoded. It was set aside; run "
        "the same command again, which decodes it anew"
    )


def _is_resident(path: Path) -> bool:
    """Whether a sample of a file's pages is in memory; True where the system can't say."""
    if not hasattr(os, "preadv") or not hasattr(os, "RWF_NOWAIT"):
        return True
    size, buffer = path.stat().st_size, bytearray(1)
    with path.open("rb", buffering=0) as stream:
        for part in range(_SAMPLE):
            try:
                os.preadv(stream.fileno(), [buffer], size * part // _SAMPLE, os.RWF_NOWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True
    return True
