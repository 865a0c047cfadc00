"""TODO."""

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
    reopen: Callable[[], tuple[KeyTable, FeatureRows]]  # what the cache holds by then
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
                raise damaged(self.lease, self.table.where)
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
