"""Shared by the parts of readers.py: a cache like that of a build, and epochs over it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import torch
from cache_write import DIMENSION, ENCODER, SHARD_ROWS, TEACHER, commit_index, synthetic_rows

from distill import Loader
from teacher_cache import (
    Cache,
    ChosenRows,
    Features,
    Provenance,
    commit_features,
    feature_matrix,
    open_features,
)

BATCH = 1024


def write_cache(folder: Path, rows: int) -> np.ndarray:
    """Write a cache of picture indexes and features like that of a build; return the features (rows, L) by number."""
    cache = Cache(str(folder), create=True)
    cache.register(TEACHER, ENCODER)
    everything = np.empty((rows, DIMENSION), np.float16)
    generator = np.random.default_rng(0)
    for start in range(0, rows, SHARD_ROWS):
        part = synthetic_rows(start, min(start + SHARD_ROWS, rows))
        features = generator.standard_normal((part.num_rows, DIMENSION), np.float32)
        everything[start : start + part.num_rows] = features
        commit_index(cache, part, start)
        commit_features(cache, TEACHER, ENCODER, part, features, Provenance(time.time))
    return everything


def evict(folder: Path) -> None:
    """Drop a folder's files from the page cache. Mapped files stay in it, so unmap them before."""
    gc.collect()
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def feature_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("features/*/*/shards/*.parquet"))


def plain_parquet(folder: Path) -> Iterator[torch.Tensor]:
    """Read the same files from front to back with plain pyarrow: unshuffled, unchecked and without keys."""
    for path in feature_files(folder):
        matrix = feature_matrix(parquet.read_table(path, columns=["feature"])["feature"])
        for start in range(0, len(matrix), BATCH):
            yield torch.from_numpy(matrix[start : start + BATCH])


def opened(folder: Path, **options: Any) -> Features:
    cache = Cache(str(folder))
    return open_features(cache, TEACHER, ENCODER, **options)


def our_loader(folder: Path, **options: Any) -> Loader:
    """Return a loader of all features."""
    features = opened(folder, **options)
    return Loader(ChosenRows(features.rows, np.arange(len(features))), "bench", BATCH, **options)


def our_epoch(folder: Path, epoch: int, **options: Any) -> Iterator[Any]:
    """Open the cache and return an epoch over all features."""
    loader = our_loader(folder, **options)
    loader.load_state_dict({**loader.state_dict(), "epoch": epoch})
    return iter(loader)


def in_memory(matrix: np.ndarray, epoch: int) -> Iterator[torch.Tensor]:
    """Return batches by index_select with a precomputed permutation: the upper limit."""
    tensor, order = (
        torch.from_numpy(matrix),
        torch.randperm(len(matrix), generator=torch.Generator().manual_seed(epoch)),
    )
    return (tensor.index_select(0, rows) for rows in order.split(BATCH))


def rate(batches: Callable[[], Iterator[Any]], seconds: float = 1e9) -> float:
    """Return the rows per second of an epoch, or of its first seconds; the time to make the iterator counts."""
    started, rows = time.perf_counter(), 0
    for batch in batches():
        rows += len(batch.rows) if hasattr(batch, "rows") else len(batch)
        if time.perf_counter() - started > seconds:
            break
    return rows / (time.perf_counter() - started)


def anonymous_mb() -> float:
    """Return the memory of this process that is not backed by a file, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6
