"""What the parts of readers.py share: a cache as a build leaves it, and epochs over it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from cache_write import DIMENSION, ENCODER, SHARD_ROWS, TEACHER, made_up_rows

from distill import Loader
from teacher_cache import (
    Cache,
    ChosenRows,
    Features,
    Provenance,
    commit_features,
    feature_matrix,
    index_path,
    open_features,
    sha256,
)

BATCH = 1024


def write_cache(folder: Path, rows: int) -> np.ndarray:
    """A cache of pictures' indexes and features as a build leaves it. Returns the features (rows, L), by number."""
    cache = Cache(str(folder), create=True)
    cache.register(TEACHER, ENCODER)
    everything = np.empty((rows, DIMENSION), np.float16)
    generator = np.random.default_rng(0)
    for start in range(0, rows, SHARD_ROWS):
        part = made_up_rows(start, min(start + SHARD_ROWS, rows))
        features = generator.standard_normal((part.num_rows, DIMENSION), np.float32)
        everything[start : start + part.num_rows] = features
        commit_index(cache, part, start)
        commit_features(cache, TEACHER, ENCODER, part, features, Provenance(time.time))
    return everything


def commit_index(cache: Cache, part: pa.Table, number: int) -> None:
    """The pictures' index; the tar beside it is made up."""
    with cache.store.draft() as draft:
        draft.write_bytes(sha256(str(number).encode()).encode())
        tar = cache.add(draft, f"images/{TEACHER.name}/shards", ".tar", part.num_rows)
    written = cache.write_shard("", part, index_path(tar.path))
    cache.commit([tar, written], **Provenance(time.time).now())


def evict(folder: Path) -> None:
    """Drop a folder's files from the page cache. What a process has mapped stays: let go of it before."""
    gc.collect()
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def feature_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("features/*/*/shards/*.parquet"))


def plain_parquet(folder: Path) -> Iterator[torch.Tensor]:
    """The same files from front to back, by plain pyarrow: nothing shuffled, nothing checked, no keys."""
    for path in feature_files(folder):
        matrix = feature_matrix(parquet.read_table(path, columns=["feature"])["feature"])
        for start in range(0, len(matrix), BATCH):
            yield torch.from_numpy(matrix[start : start + BATCH])


def opened(folder: Path, **options: Any) -> Features:
    cache = Cache(str(folder))
    return open_features(cache, TEACHER, ENCODER, **options)


def our_loader(folder: Path, **options: Any) -> Loader:
    """A loader of all features."""
    features = opened(folder, **options)
    return Loader(ChosenRows(features.rows, np.arange(len(features))), "bench", BATCH, **options)


def our_epoch(folder: Path, epoch: int, **options: Any) -> Iterator[Any]:
    """An epoch over all features, opening included."""
    loader = our_loader(folder, **options)
    loader.load_state_dict({**loader.state_dict(), "epoch": epoch})
    return iter(loader)


def in_memory(matrix: np.ndarray, epoch: int) -> Iterator[torch.Tensor]:
    """The limit: index_select by a permutation that is there already."""
    tensor, order = (
        torch.from_numpy(matrix),
        torch.randperm(len(matrix), generator=torch.Generator().manual_seed(epoch)),
    )
    return (tensor.index_select(0, rows) for rows in order.split(BATCH))


def rate(batches: Callable[[], Iterator[Any]], seconds: float = 1e9) -> float:
    """Rows a second of an epoch, or of so many seconds of it; making the iterator counts."""
    started, rows = time.perf_counter(), 0
    for batch in batches():
        rows += len(batch.rows) if hasattr(batch, "rows") else len(batch)
        if time.perf_counter() - started > seconds:
            break
    return rows / (time.perf_counter() - started)


def anonymous_mb() -> float:
    """Memory of this process that no file stands behind, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e6
