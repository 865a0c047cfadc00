"""A feature shard as it is read: its facts, and its features block by block, so that little of it is in memory at a
time. Its bytes are its commit's, and its shape and number type are the encoder's, or it is refused.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from teacher_cache.errors import CacheError
from teacher_cache.format.commits import Shard
from teacher_cache.format.shards import feature_matrix, read_npy
from teacher_cache.reading.fetching import shard_bytes
from teacher_cache.reading.key_table import from_hex
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.snapshot import Snapshot

_BLOCK = 1024  # rows decoded together
_FACTS = ["image_key", "image_sha256"]


@dataclass(frozen=True)
class FeatureShard:
    """An open one. `tar` has the bytes of the samples where the shard is their index."""

    where: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    data: bytes | mmap.mmap
    tar: bytes | mmap.mmap | None

    def facts(self) -> np.ndarray:
        """Image key and picture digest of each row, (n, 64) uint8."""
        return facts_of(self.data, self.where)

    def blocks(self) -> Iterator[np.ndarray]:
        """The features in turn, (b, L) each. Raises CacheError for other rows than were expected."""
        rows = 0
        for block in self._columns() if self.tar is None else self._members(self.tar):
            rows += len(block)
            if rows > self.shape[0] or block.shape[1] != self.shape[1] or block.dtype != self.dtype:
                raise self._misfit((rows, block.shape[1]), block.dtype)
            yield block
        if rows != self.shape[0]:
            raise self._misfit((rows, self.shape[1]), self.dtype)

    def _misfit(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> CacheError:
        return CacheError(
            f"{self.where}: expected features of shape {self.shape} and type {self.dtype}, found {shape} of {dtype}; "
            'run "armada cache verify --repair"'
        )

    def _columns(self) -> Iterator[np.ndarray]:
        for table in _batches(self.data, self.where, ["feature"]):
            yield feature_matrix(table["feature"])

    def _members(self, tar: bytes | mmap.mmap) -> Iterator[np.ndarray]:
        """Out of the .npy members of a tar of samples. They differ in their numbers alone, so one header speaks for
        all, and is compared with all."""
        first = b""
        for table in _batches(self.data, self.where, ["feature_offset", "feature_bytes"]):
            offsets, sizes = (table[name].to_numpy() for name in ("feature_offset", "feature_bytes"))
            size = int(sizes[0])
            first = first or bytes(tar[int(offsets[0]) : int(offsets[0]) + size])
            vector = read_npy(first)
            header = len(first) - vector.nbytes
            members = np.frombuffer(b"".join([tar[start : start + size] for start in offsets.tolist()]), np.uint8)
            if (sizes != len(first)).any() or len(members) != size * len(offsets):
                raise CacheError(f"{self.where}: expected features of one size, found several")
            members = members.reshape(-1, size)
            if (members[:, :header] != np.frombuffer(first[:header], np.uint8)).any():
                raise CacheError(f"{self.where}: expected features of one shape and type, found several")
            yield np.ascontiguousarray(members[:, header:]).view(vector.dtype)


def open_shard(cache: Cache, snapshot: Snapshot, shard: Shard, fetched: Path | None = None) -> FeatureShard:
    """A shard of a snapshot; without the folder `fetched` a remote one is read into memory. Raises CacheError for a
    damaged one, NoFileError for one that is gone."""
    tar = snapshot.tars.get(shard.path)
    return FeatureShard(
        f"{cache.store}/{shard.path}",
        (shard.rows, snapshot.dimension),
        snapshot.dtype,
        shard_bytes(cache, shard, fetched),
        shard_bytes(cache, tar, fetched) if tar else None,
    )


def facts_of(data: bytes | mmap.mmap, where: str) -> np.ndarray:
    """Image key and picture digest of each row of an index or a feature shard, (n, 64) uint8. Raises CacheError."""
    parts = [np.empty((0, 64), np.uint8)]
    for table in _batches(data, where, _FACTS, 1 << 20):
        parts.append(np.concatenate([from_hex(table[name], where) for name in _FACTS], axis=1))
    return np.concatenate(parts)


def _batches(data: bytes | mmap.mmap, where: str, columns: Sequence[str], rows: int = _BLOCK) -> Iterator[pa.Table]:
    """Columns of a Parquet file whose digest has been checked."""
    try:
        file = parquet.ParquetFile(pa.BufferReader(pa.py_buffer(data)), pre_buffer=False)
        for batch in file.iter_batches(rows, columns=list(columns), use_threads=False):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        raise CacheError(f"{where}: no readable Parquet: {error}") from None
