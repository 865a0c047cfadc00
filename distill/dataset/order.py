"""The order of training rows: a pure function of (data digest, seed, epoch), so it can be replayed on any machine."""

from __future__ import annotations

import hashlib

import numpy as np


def generator_of(scheme: str, key: str, seed: int, epoch: int) -> np.random.Generator:
    """Return the random generator of one epoch. `scheme` keeps the uses of the same key apart."""
    digest = hashlib.sha256(f"{scheme}\n{key}\n{seed}\n{epoch}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def batches(
    rows: int, batch_size: int, *, key: str, seed: int, epoch: int, lengths: np.ndarray | None = None
) -> list[np.ndarray]:
    """Return the batches of one epoch: arrays of row numbers, (<= batch_size,) int64, in which every row occurs once.

    With `lengths` (N,), rows of similar length share a batch, which reduces padding: the shuffled rows are sorted by
    length within chunks of 50 batches, and then the batches are shuffled, so that the epoch is not ordered by length.
    """
    generator = generator_of("armada-order/1", key, seed, epoch)
    order = generator.permutation(rows)
    if lengths is not None:
        chunk = 50 * batch_size
        parts = [order[start : start + chunk] for start in range(0, rows, chunk)]
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    cut = [order[start : start + batch_size] for start in range(0, rows, batch_size)]
    if lengths is not None:
        cut = [cut[place] for place in generator.permutation(len(cut))]
    return cut


def share(batch: np.ndarray, rank: int, ranks: int) -> tuple[np.ndarray, int]:
    """Return the part of a global batch that belongs to `rank`, and how many of its rows count.

    Every rank gets ceil(len(batch) / ranks) rows. The parts of the last ranks are padded with rows from the start of
    the batch; the caller must ignore those.
    """
    count = -(-len(batch) // ranks)
    own = batch[rank * count : (rank + 1) * count]
    if len(own) == count:
        return own, count  # no copy: of one process, this would be a second permutation of all rows
    return np.concatenate([own, np.resize(batch, count - len(own))]), len(own)
