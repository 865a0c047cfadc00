"""Digests as arrays of 32 bytes, which take half the memory of their hexadecimal text, and the search for them.

The search compares the first eight bytes and then the whole digest, so that a collision never leads to another row.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import numpy as np
import pyarrow as pa

from teacher_cache.errors import CacheError
from teacher_cache.format.arrow import one_array

DIGEST = pa.binary(32)
_BLOCK = 16_384  # digests handled at once


def from_hex(column: Sequence[str] | pa.ChunkedArray | pa.Array, where: str) -> np.ndarray:
    """Convert digests from hexadecimal to bytes (N, 32) uint8. Raises CacheError for `where` if one is no digest."""
    array = one_array(column) if isinstance(column, pa.ChunkedArray | pa.Array) else pa.array(column, pa.string())
    _, ends, digits = array.buffers()
    offsets = np.frombuffer(ends or bytes(4), np.int32)[array.offset : array.offset + len(array) + 1]
    try:
        if array.null_count or (np.diff(offsets) != 64).any():
            raise binascii.Error
        data = binascii.unhexlify(memoryview(digits or b"")[offsets[0] : offsets[-1]])
    except binascii.Error:
        raise CacheError(f"{where}: expected digests of 64 hexadecimal digits; armada did not write this") from None
    return np.frombuffer(data, np.uint8).reshape(-1, 32)


def to_hex(digests: np.ndarray) -> list[str]:
    """Convert digests (N, 32) uint8 to hexadecimal."""
    text = np.ascontiguousarray(digests).tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]


def to_column(digests: np.ndarray) -> pa.Array:
    """Return digests (N, 32) uint8 as a column of type DIGEST, without a copy if they are contiguous."""
    return pa.FixedSizeBinaryArray.from_buffers(
        DIGEST, len(digests), [None, pa.py_buffer(np.ascontiguousarray(digests))]
    )


def from_column(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Return a column of type DIGEST without nulls as an array (N, 32) uint8, without a copy if it is one chunk."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [
        np.frombuffer(chunk.buffers()[1] or b"", np.uint8).reshape(-1, 32)[chunk.offset : chunk.offset + len(chunk)]
        for chunk in chunks
        if len(chunk)
    ]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, 32), np.uint8)


def leading(keys: np.ndarray) -> np.ndarray:
    """Return the first eight bytes of each key (B, >= 8) uint8 as a number (B,) uint64, which sorts as the keys do."""
    numbers: np.ndarray = np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    return numbers


def same_rows(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which rows of two (N, 8 * W) uint8 arrays are equal, (N,) bool."""
    same: np.ndarray = np.ascontiguousarray(some).view(np.uint64) == np.ascontiguousarray(others).view(np.uint64)
    every: np.ndarray = np.logical_and.reduce([same[:, word] for word in range(same.shape[1])])
    return every


def same_at(digests: np.ndarray, places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return whether digests[places[i]] (of (N, 32) uint8) is others[i] (of (B, 32)), (B,) bool; False for place -1."""
    same = np.zeros(len(places), bool)
    found = places >= 0
    same[found] = same_rows(digests[places[found]], others[found])
    return same


def smaller_rows(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which rows of the first of two (N, 32) uint8 arrays are the smaller ones, byte by byte, (N,) bool."""
    words, other_words = (np.ascontiguousarray(rows).view(">u8") for rows in (some, others))
    first = (words != other_words).argmax(axis=1)[:, None]  # the word that decides
    smaller: np.ndarray = np.take_along_axis(words, first, 1) < np.take_along_axis(other_words, first, 1)
    return smaller[:, 0]


def canonical_rows(facts: np.ndarray) -> np.ndarray:
    """Return the first row of each distinct key (K,), ascending by key, of rows (N, 8 * W) uint8 that begin with a key
    of 32 bytes: the one with the smallest remaining bytes (a picture's digest), the first one among equals."""
    prefixes = leading(facts)
    order = np.argsort(prefixes, kind="stable")
    ascending = prefixes[order]
    if (ascending[1:] != ascending[:-1]).all():
        return order
    words = np.ascontiguousarray(facts).view(">u8").astype(np.uint64)
    order = np.lexsort(words.T[::-1])
    keys = words[order, :4]
    first: np.ndarray = order[np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))]
    return first


def find_rows(
    prefixes: np.ndarray, order: np.ndarray, keys: np.ndarray, keys_of: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return the row (B,) int64 of each key (B, 32) uint8, -1 for a key that has none.

    `prefixes` (N,) ascend, and prefixes[j] begins the key of row order[j]; `keys_of` returns the keys of some rows.
    """
    wanted = leading(keys)
    queue = np.argsort(wanted)  # ascending, so that the search touches each page once
    places = np.empty(len(keys), np.int64)
    places[queue] = np.searchsorted(prefixes, wanted[queue])
    rows = np.full(len(keys), -1, np.int64)
    pending = queue
    while len(pending):
        pending = pending[places[pending] < len(order)]
        pending = pending[prefixes[places[pending]] == wanted[pending]]
        candidates = order[places[pending]]
        same = same_rows(keys_of(candidates), keys[pending])
        rows[pending[same]] = candidates[same]
        pending = pending[~same]  # another key with the same eight bytes: try the next place
        places[pending] += 1
    return rows


@dataclass(frozen=True)
class DigestIndex:
    """Finds the row of a digest among distinct ones; made by `index_digests`."""

    digests: np.ndarray  # (N, 32) uint8
    prefixes: np.ndarray  # (N,) uint64, ascending
    order: np.ndarray  # (N,) int64

    def find(self, digests: np.ndarray) -> np.ndarray:
        """Return the row (B,) int64 of each digest (B, 32) uint8, -1 for one that is not there."""
        return find_rows(self.prefixes, self.order, digests, lambda rows: cast(np.ndarray, self.digests[rows]))

    def count(self, digests: Iterable[str]) -> int:
        """Return how many of some hexadecimal digests are there."""
        found, remaining = 0, iter(digests)
        while block := list(islice(remaining, _BLOCK)):
            found += int((self.find(from_hex(block, "digests")) >= 0).sum())
        return found


def index_digests(digests: np.ndarray) -> DigestIndex:
    """Return the index of digests (N, 32) uint8. Of equal ones it finds one."""
    prefixes = leading(digests)
    order = np.argsort(prefixes)
    return DigestIndex(digests, prefixes[order], order)
