"""Windows: training on features that this machine can't hold, in an order that is shuffled all the same.

A window of groups (shards) slides over the epoch: groups come in random order, and each group's rows are spread over
the next groups' time. The order is a pure function of its arguments, and so can be replayed and resumed anywhere.
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
    """How many rows the window may hold on average: what is left beside the groups in flight (decoded, as a page of
    Parquet, and as much again that allocators keep), less a third, for its size varies."""
    in_flight = 3 * AHEAD * group_rows * row_bytes
    free = max(max_local_bytes - in_flight, max_local_bytes // 4)
    return max(1, int(free / 1.5 / row_bytes))


def window_batches(
    groups: np.ndarray, batch_size: int, resident: int, *, key: str, seed: int, epoch: int
) -> list[np.ndarray]:
    """An epoch's batches of row numbers, each (<= batch_size,) int64; every row once. `groups` (N,) says which rows are
    read together; about `resident` rows are held at a time, and a batch mixes the groups of twice as many."""
    generator = generator_of("armada-windows/1", key, seed, epoch)
    counts = np.bincount(groups)
    queue = generator.permutation(np.flatnonzero(counts))
    before = np.zeros(len(counts), np.int64)  # rows of the groups that come first
    before[queue] = np.cumsum(counts[queue]) - counts[queue]
    times = generator.uniform(0, 2 * resident, len(groups))
    times += np.maximum(0, before - resident)[groups]
    order = np.argsort(times, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def stream(rows: FeatureRows, batches: Sequence[np.ndarray], groups: np.ndarray) -> Iterator[np.ndarray]:
    """The features (B, L) of each batch, in turn. A group is read once, shortly before its first row is needed, and a
    row is held until its batch is over: what is held at a time is what the order asks for."""
    when = np.full(len(groups), -1, np.int32)  # the batch that needs a row
    for number, batch in enumerate(batches):
        when[batch] = number
    wanted = np.flatnonzero(when >= 0)
    wanted = wanted[np.argsort(groups[wanted], kind="stable")]
    parts = np.split(wanted, np.flatnonzero(np.diff(groups[wanted])) + 1) if len(wanted) else []
    parts.sort(key=lambda part: int(when[part].min()))
    due = deque((int(when[part].min()), part) for part in parts)

    def empty(count: int) -> np.ndarray:
        return np.empty((count, rows.shape[1]), rows.dtype)

    pool = empty(_most_held(parts, when, len(batches)))
    slots = np.empty(len(groups), np.int32)  # where in the pool a row is
    free = list(range(len(pool)))
    largest = max(map(len, parts), default=0)
    with ThreadPoolExecutor(AHEAD, "armada-ahead") as executor:
        upcoming = iter(parts)
        pending: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()

        def fetch(buffer: np.ndarray) -> None:
            for part in islice(upcoming, 1):
                pending.append((buffer, executor.submit(rows.take, part, buffer[: len(part)])))

        for _ in range(AHEAD):
            fetch(empty(largest))  # one for each group in flight, used again and again
        for number, batch in enumerate(batches):
            while due and due[0][0] <= number:
                _, part = due.popleft()
                buffer, features = pending.popleft()
                slots[part] = [free.pop() for _ in part]
                pool[slots[part]] = features.result()
                fetch(buffer)
            yield pool.take(slots[batch], axis=0)
            free.extend(slots[np.unique(batch)].tolist())


def _most_held(parts: Sequence[np.ndarray], when: np.ndarray, batches: int) -> int:
    """The most rows that are held at a time."""
    change = np.zeros(batches + 1, np.int64)
    for part in parts:
        change[when[part].min()] += len(part)
        np.subtract.at(change, when[part] + 1, 1)
    return int(np.cumsum(change).max()) if len(parts) else 0


def autocorrelation(positions: np.ndarray, lag: int = 1) -> float:
    """How far the position of a row (in the order on disk) tells that of the row `lag` later: 0 for a global shuffle, 1
    for none. In windows it is about one over the groups that a batch mixes."""
    here, there = positions[:-lag].astype(np.float64), positions[lag:].astype(np.float64)
    correlation: Any = np.corrcoef(here, there)[0, 1]
    return float(correlation)
