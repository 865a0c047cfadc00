"""Read a feature shard: its keys, and its features block by block, so that only a small part is in memory at a time.

Its bytes are compared with the commit, and its shape and number type with the encoder's spec.
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

from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.commits import Shard
from teacher_cache.format.digests import from_hex
from teacher_cache.format.shards import feature_matrix, rows_in
from teacher_cache.reading.fetching import shard_bytes
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.snapshot import Snapshot

_BLOCK = 1024  # rows decoded at once
_FACTS = ["image_key", "image_sha256"]


@dataclass(frozen=True)
class FeatureShard:
    """An open feature shard: a Parquet file of features."""

    where: str  # its address, for messages
    shape: tuple[int, int]  # (n, L), as the commit and the encoder's spec state it
    dtype: np.dtype[Any]
    data: bytes | mmap.mmap  # of the file

    def facts(self) -> np.ndarray:
        """Return the image key and the picture digest of each row, (n, 64) uint8."""
        return facts_of(self.data, self.where, self.shape[0])

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the features in order, in blocks (b, L). Raises CacheError if their shape or type is not the expected
        one."""
        rows = 0
        if (stated := rows_in(_opened(self.data, self.where, ["feature"]))) != self.shape[0]:
            raise self._mismatch((stated, self.shape[1]), self.dtype)
        for table in _batches(self.data, self.where, ["feature"]):
            column = table["feature"]
            if not pa.types.is_fixed_size_list(column.type) or column.null_count:
                expected = f"a list of {self.shape[1]} numbers per row"
                raise CacheError(f"{self.where}: expected {expected}, found {column.type}; {repair_hint()}")
            block = feature_matrix(column)
            rows += len(block)
            if rows > self.shape[0] or block.shape[1] != self.shape[1] or block.dtype != self.dtype:
                raise self._mismatch((rows, block.shape[1]), block.dtype)
            yield block
        if rows != self.shape[0]:
            raise self._mismatch((rows, self.shape[1]), self.dtype)

    def _mismatch(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> CacheError:
        return CacheError(
            f"{self.where}: expected features of shape {self.shape} and type {self.dtype}, found {shape} of {dtype}; "
            f"{repair_hint(build_again=False)}"
        )


def open_shard(cache: Cache, snapshot: Snapshot, shard: Shard, fetched: Path | None = None) -> FeatureShard:
    """Open a shard of a snapshot. A remote one is copied into the folder `fetched`, or read into memory without it.

    Raises CacheError if the shard is damaged, NoFileError if it is missing.
    """
    return FeatureShard(
        f"{cache.store}/{shard.path}",
        (shard.rows, snapshot.dimension),
        snapshot.dtype,
        shard_bytes(cache, shard, fetched),
    )


def facts_of(data: bytes | mmap.mmap, where: str, rows: int) -> np.ndarray:
    """Return the image key and the picture digest of each of the `rows` rows of an index or a feature shard, (n, 64)
    uint8.

    Raises CacheError if `data` is not Parquet, has another number of rows, or a key is no digest.
    """
    if (stated := rows_in(_opened(data, where, _FACTS))) != rows:
        raise CacheError(f"{where}: expected {rows} rows, found {stated}; {repair_hint()}")
    parts = [np.empty((0, 64), np.uint8)]
    for table in _batches(data, where, _FACTS, 1 << 20):
        parts.append(np.concatenate([from_hex(table[name], where) for name in _FACTS], axis=1))
    return np.concatenate(parts)


def _batches(data: bytes | mmap.mmap, where: str, columns: Sequence[str], rows: int = _BLOCK) -> Iterator[pa.Table]:
    """Yield columns of a Parquet file, whose digest has been checked, in tables of up to `rows` rows."""
    file = _opened(data, where, columns)
    try:
        for batch in file.iter_batches(rows, columns=list(columns), use_threads=False):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, ValueError, OSError, KeyError) as error:
        raise CacheError(f"{where}: expected a readable Parquet file: {error}") from None


def _opened(data: bytes | mmap.mmap, where: str, columns: Sequence[str]) -> parquet.ParquetFile:
    """Open a Parquet file that has each of some columns once."""
    try:
        file = parquet.ParquetFile(pa.BufferReader(pa.py_buffer(data)), pre_buffer=False)
        names = file.schema_arrow.names
    except (pa.ArrowException, ValueError, OSError, KeyError) as error:
        raise CacheError(f"{where}: expected a readable Parquet file: {error}") from None
    if absent := [column for column in columns if names.count(column) != 1]:
        raise CacheError(f"{where}: expected one column {absent[0]}, found {names}")
    return file
