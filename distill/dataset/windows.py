"""Windows: a shuffled order over features that do not fit into memory or on the disk.

A window of groups (shards) slides over the epoch. The groups come in random order, and the rows of each group are
spread over the time in which the next groups are read. The order is a pure function of its arguments, so it can be
replayed and resumed on any machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from distill.dataset.order import generator_of
from teacher_cache import FeatureRows

AHEAD = 2  # groups fetched and decoded before they are needed


def resident_rows(max_local_bytes: int, row_bytes: int, group_rows: int) -> int:
    """Return how many rows the window may contain on average.

    This is the memory that is left beside the groups in flight (each counted three times: decoded, as a Parquet page,
    and as memory that allocators keep), less a third, because the size of the window varies.
    """
    in_flight = 3 * AHEAD * group_rows * row_bytes
    free = max(max_local_bytes - in_flight, max_local_bytes // 4)
    return max(1, int(free / 1.5 / row_bytes))


def window_batches(
    groups: np.ndarray, batch_size: int, resident: int, *, key: str, seed: int, epoch: int
) -> list[np.ndarray]:
    """Return the batches of one epoch: arrays of row numbers, (<= batch_size,) int64, in which every row occurs once.

    `groups` (N,) is the group of each row; the rows of a group are read together. About `resident` rows are in memory
    at a time, and a batch mixes rows from the groups of about 2 * `resident` rows.
    """
    generator = generator_of("armada-windows/1", key, seed, epoch)
    counts = np.bincount(groups)
    queue = generator.permutation(np.flatnonzero(counts))
    before = np.zeros(len(counts), np.int64)  # the number of rows in earlier groups
    before[queue] = np.cumsum(counts[queue]) - counts[queue]
    times = generator.uniform(0, 2 * resident, len(groups))
    times += np.maximum(0, before - resident)[groups]
    order = np.argsort(times, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def stream(rows: FeatureRows, batches: Sequence[np.ndarray], groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the features (B, L) of each batch in order.

    Each group is read once, shortly before its first row is needed; a row stays in memory until its batch was yielded.
    """
    when = np.full(len(groups), -1, np.int32)  # the batch that needs each row
    for number, batch in enumerate(batches):
        when[batch] = number
    needed = np.flatnonzero(when >= 0)
    needed = needed[np.argsort(groups[needed], kind="stable")]
    parts = np.split(needed, np.flatnonzero(np.diff(groups[needed])) + 1) if len(needed) else []
    parts.sort(key=lambda part: int(when[part].min()))
    due = deque((int(when[part].min()), part) for part in parts)

    def empty(count: int) -> np.ndarray:
        return np.empty((count, rows.shape[1]), rows.dtype)

    pool = empty(_peak_rows(parts, when, len(batches)))
    slots = np.empty(len(groups), np.int32)  # the place of each row in the pool
    free = list(range(len(pool)))
    largest = max(map(len, parts), default=0)
    with ThreadPoolExecutor(AHEAD, "armada-ahead") as executor:
        upcoming = iter(parts)
        pending: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()

        def fetch(buffer: np.ndarray) -> None:
            for part in islice(upcoming, 1):
                pending.append((buffer, executor.submit(rows.take, part, buffer[: len(part)])))

        for _ in range(AHEAD):
            fetch(empty(largest))  # one buffer per group in flight, reused
        for number, batch in enumerate(batches):
            while due and due[0][0] <= number:
                _, part = due.popleft()
                buffer, features = pending.popleft()
                slots[part] = [free.pop() for _ in part]
                pool[slots[part]] = features.result()
                fetch(buffer)
            yield pool.take(slots[batch], axis=0)
            free.extend(slots[np.unique(batch)].tolist())


def _peak_rows(parts: Sequence[np.ndarray], when: np.ndarray, batches: int) -> int:
    """Return the largest number of rows that are in memory at the same time."""
    change = np.zeros(batches + 1, np.int64)
    for part in parts:
        change[when[part].min()] += len(part)
        np.subtract.at(change, when[part] + 1, 1)
    return int(np.cumsum(change).max()) if len(parts) else 0


def autocorrelation(positions: np.ndarray, lag: int = 1) -> float:
    """Return the correlation between the position on disk of a row and that of the row `lag` steps later in the epoch.

    It is 0 for a global shuffle and 1 for no shuffle; with windows it is about 1 / (number of groups that a batch
    mixes).
    """
    here, there = positions[:-lag].astype(np.float64), positions[lag:].astype(np.float64)
    correlation: Any = np.corrcoef(here, there)[0, 1]
    return float(correlation)
