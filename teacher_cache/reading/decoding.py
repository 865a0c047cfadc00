"""Decoding: feature shards into flat files that are mapped into memory. Shards are read, checked and decoded side by
side, each straight into its place.

What counts is decided here, once: of a key's pictures the one of the smallest digest, and only features of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from teacher_cache.format.commits import Shard
from teacher_cache.format.shards import is_sound
from teacher_cache.progress_bar import progress
from teacher_cache.reading.feature_shard import facts_of, open_shard
from teacher_cache.reading.fetching import shard_bytes
from teacher_cache.reading.key_table import (
    KEY,
    PICTURE,
    KeyTable,
    canonical_rows,
    key_table,
    leading,
    row_sums,
    same_rows,
)
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.snapshot import Snapshot

REMOTE_THREADS = 16  # most of their time is waiting
_BLOCK = 4096  # rows moved together


def threads_for(cache: Cache) -> int:
    """How many shards to decode side by side."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(2, allowed) if cache.store.is_local else REMOTE_THREADS


def decode(cache: Cache, snapshot: Snapshot, draft: Path, fetched: Path | None, *, keep_features: bool = True) -> None:
    """Write what a snapshot's features are into the empty folder `draft`: facts, key table, checksums, and, with
    `keep_features`, the matrix. Raises NoFileError where a shard was removed meanwhile."""
    starts = np.cumsum([0, *(shard.rows for shard in snapshot.features)])
    rows = int(starts[-1])
    facts = np.empty((rows, 64), np.uint8)
    sums, sound = np.empty(rows, np.uint64), np.empty(rows, bool)
    shape = (rows, snapshot.dimension)
    matrix = _MatrixFile(draft / "features.npy", snapshot.dtype, shape) if keep_features else None

    def one(place: int) -> int:
        shard = open_shard(cache, snapshot, snapshot.features[place], fetched)
        first = start = int(starts[place])
        for block in shard.blocks():
            here = slice(start, start + len(block))
            sums[here] = row_sums(block)
            if matrix:
                matrix.write(start, block)
            else:
                sound[here] = is_sound(block)
            start += len(block)
        facts[first:start] = shard.facts()
        return start - first

    def index(shard: Shard) -> np.ndarray:
        return facts_of(shard_bytes(cache, shard, fetched), f"{cache.store}/{shard.path}")

    try:
        with progress(rows, "decode features", "row") as bar:
            _side_by_side(one, range(len(snapshot.features)), threads_for(cache), bar.update)
    finally:
        if matrix:
            matrix.close()
    images = _side_by_side(index, snapshot.images, threads_for(cache))
    kept = _counting(facts, np.concatenate([np.empty((0, 64), np.uint8), *images]))
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


def _counting(facts: np.ndarray, images: np.ndarray) -> np.ndarray:
    """The places of the feature rows that count, ascending. Features whose picture is nowhere here count too: pictures
    may stay elsewhere."""
    if len(images):
        chosen = images[canonical_rows(images)]
        if len(chosen) == len(facts) and np.array_equal(chosen, facts[canonical_rows(facts)]):
            return np.arange(len(facts))  # every picture has its feature: the usual case, found in a fifth of the time
        places = KeyTable(chosen, row_sums(chosen), leading(chosen), np.arange(len(chosen))).find(facts[:, KEY])
        other = ~same_rows(chosen[places, PICTURE], facts[:, PICTURE]) & (places >= 0)
        candidates = np.flatnonzero(~other)
    else:
        candidates = np.arange(len(facts))
    return np.sort(candidates[canonical_rows(facts[candidates])])


def _side_by_side(
    work: Callable[[Any], Any], items: Iterable[Any], threads: int, done: Callable[[int], object] = lambda rows: None
) -> list[Any]:
    """The results in order; the first error stops what hasn't begun."""
    stop = threading.Event()

    def guarded(item: Any) -> Any:
        if stop.is_set():
            return None
        try:
            return work(item)
        except BaseException:
            stop.set()
            raise

    results = []
    with ThreadPoolExecutor(threads, "armada-decode") as pool:
        for future in [pool.submit(guarded, item) for item in items]:
            results.append(future.result())
            done(results[-1] if isinstance(results[-1], int) else 1)
    return results


class _MatrixFile:
    """A .npy file of a known shape, written in pieces from several threads. Plain writes are faster than a mapping that
    grows page by page, and make a full disk an error and not a signal."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> None:
        with path.open("wb") as stream:
            facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, facts)
            self._offset = stream.tell()
        self._row = shape[1] * dtype.itemsize
        self._file = os.open(path, os.O_WRONLY)
        if shape[0] and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, self._offset, shape[0] * self._row)

    def write(self, first: int, rows: np.ndarray) -> None:
        """Write rows (n, L) from row number `first` on."""
        data, offset = np.ascontiguousarray(rows).data.cast("B"), self._offset + first * self._row
        while data:
            written = os.pwrite(self._file, data, offset)
            data, offset = data[written:], offset + written

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _keep_rows(folder: Path, kept: np.ndarray) -> None:
    """Write the matrix again without the rows that don't count."""
    everything = folder / "all.npy"
    (folder / "features.npy").rename(everything)
    source = np.load(everything, mmap_mode="r", allow_pickle=False)
    target = _MatrixFile(folder / "features.npy", source.dtype, (len(kept), source.shape[1]))
    for start in range(0, len(kept), _BLOCK):
        target.write(start, source[kept[start : start + _BLOCK]])
    target.close()
    everything.unlink()
