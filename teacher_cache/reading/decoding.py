"""Decoding: turn feature shards into flat files that are mapped into memory. Shards are read, checked and decoded in
parallel, each directly into its place.

If a key has several pictures, the one with the smallest digest is canonical; only features computed from it are kept.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from teacher_cache.format.commits import Shard
from teacher_cache.format.digests import canonical_rows, leading, same_rows
from teacher_cache.format.shards import is_sound
from teacher_cache.progress_bar import progress
from teacher_cache.reading.feature_shard import facts_of, open_shard
from teacher_cache.reading.fetching import shard_bytes
from teacher_cache.reading.key_table import KEY, PICTURE, KeyTable, key_table, row_sums
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.snapshot import Snapshot

REMOTE_THREADS = 16  # they mostly wait for the network
_BLOCK = 4096  # rows copied at once

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def threads_for(cache: Cache) -> int:
    """Return how many shards to decode in parallel."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, allowed) if cache.store.is_local else REMOTE_THREADS


def decode(cache: Cache, snapshot: Snapshot, draft: Path, fetched: Path | None, *, keep_features: bool = True) -> None:
    """Decode the features of a snapshot into files.

    Args:
        cache: The cache of the snapshot.
        snapshot: The shards to decode.
        draft: The empty folder to write to: key table, checksums and, with `keep_features`, the matrix (N, L). Without
            it, `places` and `sound` tell where each row lies among all rows of all shards, and whether it is sound.
        fetched: The folder for copies of remote shards; None to read them into memory.
        keep_features: Whether to write the matrix.

    Raises CacheError if a shard is damaged, NoFileError if one was removed meanwhile.
    """
    starts = np.cumsum([0, *(shard.rows for shard in snapshot.features)])
    rows = int(starts[-1])
    facts = np.empty((rows, 64), np.uint8)
    sums, sound = np.empty(rows, np.uint64), np.empty(rows, bool)
    shape = (rows, snapshot.dimension)
    matrix = _MatrixFile(draft / "features.npy", snapshot.dtype, shape) if keep_features else None

    def decode_shard(number: int) -> int:
        """Decode one feature shard into its place; return its number of rows."""
        shard = open_shard(cache, snapshot, snapshot.features[number], fetched)
        first = start = int(starts[number])
        for block in shard.blocks():
            place = slice(start, start + len(block))
            sums[place] = row_sums(block)
            if matrix:
                matrix.write(start, block)
            else:
                sound[place] = is_sound(block)
            start += len(block)
        facts[first:start] = shard.facts()
        return start - first

    def read_index(shard: Shard) -> np.ndarray:
        return facts_of(shard_bytes(cache, shard, fetched), f"{cache.store}/{shard.path}", shard.rows)

    try:
        with progress(rows, "decode features", "row") as bar:
            _in_parallel(decode_shard, range(len(snapshot.features)), threads_for(cache), bar.update)
    finally:
        if matrix:
            matrix.close()
    images = _in_parallel(read_index, snapshot.indexes, threads_for(cache))
    kept = _canonical_places(facts, np.concatenate([np.empty((0, 64), np.uint8), *images]))
    if len(kept) < rows:
        facts, sums, sound = facts[kept], sums[kept], sound[kept]
        if keep_features:
            _keep_rows(draft, kept)
    table = key_table(facts)
    arrays = {"facts": facts, "fact_sums": table.sums, "prefixes": table.prefixes, "order": table.order}
    arrays["feature_sums"] = sums
    if not keep_features:
        arrays |= {"sound": sound, "places": kept}
    for name, array in arrays.items():
        np.save(draft / f"{name}.npy", array, allow_pickle=False)


def _canonical_places(facts: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return the places of the canonical feature rows, ascending (K,).

    Args:
        facts: (N, 64) uint8, image key and picture digest of each feature row.
        images: (M, 64) uint8, the same of each picture in the cache. A feature row without a picture is kept: the
            picture may be stored elsewhere.
    """
    if len(images):
        canonical = images[canonical_rows(images)]
        if len(canonical) == len(facts) and np.array_equal(canonical, facts[canonical_rows(facts)]):
            return np.arange(len(facts))  # the usual case, every picture has its feature: five times as fast
        table = KeyTable(canonical, row_sums(canonical), leading(canonical), np.arange(len(canonical)))
        places = table.find(facts[:, KEY])
        of_another_picture = ~same_rows(canonical[places, PICTURE], facts[:, PICTURE]) & (places >= 0)
        candidates = np.flatnonzero(~of_another_picture)
    else:
        candidates = np.arange(len(facts))
    return np.sort(candidates[canonical_rows(facts[candidates])])


def _in_parallel(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    threads: int,
    done: Callable[[_Result], object] = lambda result: None,
) -> list[_Result]:
    """Return the results in the order of the items, and call `done` with each. No item is started after the first
    error, which is raised."""
    failed = threading.Event()

    def run_unless_failed(item: _Item) -> _Result:
        if failed.is_set():
            raise CancelledError
        try:
            return function(item)
        except BaseException:
            failed.set()
            raise

    results = []
    with ThreadPoolExecutor(threads, "armada-decode") as pool:
        for future in [pool.submit(run_unless_failed, item) for item in items]:
            results.append(future.result())
            done(results[-1])
    return results


class _MatrixFile:
    """A .npy file of known shape that several threads write in pieces. Plain writes are faster than writing to a memory
    mapping, and a full disk raises an error instead of killing the process with a signal."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> None:
        with path.open("wb") as stream:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            self._offset = stream.tell()
        self._row_bytes = shape[1] * dtype.itemsize
        self._file = os.open(path, os.O_WRONLY)
        if shape[0] and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, self._offset, shape[0] * self._row_bytes)

    def write(self, first: int, rows: np.ndarray) -> None:
        """Write rows (n, L), beginning at row number `first`."""
        data, offset = np.ascontiguousarray(rows).data.cast("B"), self._offset + first * self._row_bytes
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _keep_rows(folder: Path, kept: np.ndarray) -> None:
    """Rewrite the matrix with the rows `kept` (K,) only."""
    everything = folder / "all.npy"
    (folder / "features.npy").rename(everything)
    source = np.load(everything, mmap_mode="r", allow_pickle=False)
    target = _MatrixFile(folder / "features.npy", source.dtype, (len(kept), source.shape[1]))
    for start in range(0, len(kept), _BLOCK):
        target.write(start, source[kept[start : start + _BLOCK]])
    target.close()
    everything.unlink()
