"""The order of training rows: a pure function of (data digest, seed, epoch), so that it can be replayed anywhere."""

from __future__ import annotations

import hashlib

import numpy as np


def generator_of(scheme: str, key: str, seed: int, epoch: int) -> np.random.Generator:
    """The random generator of an epoch's order."""
    digest = hashlib.sha256(f"{scheme}\n{key}\n{seed}\n{epoch}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def batches(
    rows: int, batch_size: int, *, key: str, seed: int, epoch: int, lengths: np.ndarray | None = None
) -> list[np.ndarray]:
    """An epoch's batches of row numbers, each (<= batch_size,) int64; every row once.

    With `lengths`, rows of like length share a batch: shuffled rows are sorted within stretches of 50 batches, and the
    batches are shuffled again, so that little is padded and no order by length remains.
    """
    generator = generator_of("armada-order/1", key, seed, epoch)
    order = generator.permutation(rows)
    if lengths is not None:
        stretch = 50 * batch_size
        parts = [order[start : start + stretch] for start in range(0, rows, stretch)]
        order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in parts])
    cut = [order[start : start + batch_size] for start in range(0, rows, batch_size)]
    if lengths is not None:
        cut = [cut[place] for place in generator.permutation(len(cut))]
    return cut


def share(batch: np.ndarray, rank: int, ranks: int) -> tuple[np.ndarray, int]:
    """A rank's part of a global batch, and how many rows of it are its own: every rank gets ceil(len / ranks) rows, the
    last ones filled up with rows from the batch's start, which are to count for nothing."""
    count = -(-len(batch) // ranks)
    own = batch[rank * count : (rank + 1) * count]
    return np.concatenate([own, np.resize(batch, count - len(own))]), len(own)
