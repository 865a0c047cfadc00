"""Rows that are read from the shards at each access, for matrices too large for this machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from teacher_cache.errors import NoFileError
from teacher_cache.reading.decoding import threads_for
from teacher_cache.reading.feature_shard import open_shard
from teacher_cache.reading.key_table import KEY, KeyTable, row_sums
from teacher_cache.reading.matrix_store import Lease
from teacher_cache.reading.rows import FeatureRows, damaged
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.snapshot import Snapshot


@dataclass(frozen=True)
class ShardRows:
    """Rows that are decoded from their shards at each `take`: fast for windows of rows that lie in few shards, slow for
    random batches.

    If a shard was removed after the snapshot (another process compacted the cache), its rows are found again by key
    with `reopen`, and must be equal.
    """

    cache: Cache
    snapshot: Snapshot
    table: KeyTable
    sums: np.ndarray  # (N,) uint64: `row_sums` of the features
    sound: np.ndarray  # (N,) bool: finite and not zero
    places: np.ndarray  # (N,) int64: the place of each row among all rows of all feature shards
    reopen: Callable[[], tuple[KeyTable, FeatureRows]]  # open the features that the cache has at that time
    lease: Lease | None = None

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
        """Return the number of the shard of each row (B,), (B,) int64."""
        numbers = np.searchsorted(self._starts, self.places[rows], side="right") - 1
        in_range: np.ndarray = np.clip(numbers, 0, len(self._starts) - 2)  # `take` detects a damaged place
        return in_range

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See FeatureRows. Each shard that contains one of the rows is read and checked once.

        Raises NoFileError if a shard was removed and one of its rows no longer exists or has changed.
        """
        taken = np.empty((len(rows), self.shape[1]), self.dtype) if out is None else out
        numbers = self.shards_of(rows)
        order = np.argsort(numbers, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
        take_group = partial(self._take_group, numbers, rows, taken)
        if len(groups) == 1:
            take_group(order)
        else:
            with ThreadPoolExecutor(threads_for(self.cache), "armada-window") as pool:
                list(pool.map(take_group, groups))
        return taken

    def warm(self) -> None:
        """Do nothing: shards are read from front to back in any case."""

    def _take_group(self, numbers: np.ndarray, rows: np.ndarray, taken: np.ndarray, group: np.ndarray) -> None:
        """Read the rows of one shard: `taken[group]` becomes the features of `rows[group]`."""
        if not len(group):
            return
        number = int(numbers[group[0]])
        shard = self.snapshot.features[number]
        try:
            opened = open_shard(self.cache, self.snapshot, shard)
        except NoFileError:
            taken[group] = self._take_reopened(rows[group])
            return
        places = np.clip(self.places[rows[group]] - self._starts[number], 0, shard.rows - 1)  # within the shard
        ascending = np.argsort(places)
        group, places = group[ascending], places[ascending]
        start = 0
        for features in opened.blocks():
            first, last = np.searchsorted(places, (start, start + len(features)))
            part, block = group[first:last], features[places[first:last] - start]
            if (row_sums(block) != self.sums[rows[part]]).any():
                raise damaged(self.lease, self.table.where)
            taken[part] = block
            start += len(features)

    def _take_reopened(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of rows whose shard was removed, from the cache as it is now."""
        table, source = self.reopen()
        facts = self.table.checked(rows)
        found = table.find(facts[:, KEY])
        if (found >= 0).all():
            features = source.take(found)
            if (row_sums(features) == self.sums[rows]).all():
                return features
        raise NoFileError(
            f"{self.cache.store}: a shard was removed since it was opened, and {len(rows)} of its rows are missing or "
            "changed; run the build, and then the same command again"
        )
