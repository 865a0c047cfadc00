"""The key table: it finds the matrix row of an image key. It compares the whole key with that of the row, so that
neither a collision nor a damaged table leads to the row of another key.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.arrow import one_array

KEY, PICTURE = slice(0, 32), slice(32, 64)  # the columns of facts
_BLOCK = 1 << 16  # rows checked at once


@dataclass(frozen=True)
class KeyTable:
    """Row i of `facts` belongs to matrix row i; `prefixes` ascend, and prefixes[j] begins the key of row order[j]."""

    facts: np.ndarray  # (N, 64) uint8: image key, sha256 of the picture that the feature came from
    sums: np.ndarray  # (N,) uint64: `row_sums` of facts
    prefixes: np.ndarray  # (N,) uint64: a key's first eight bytes
    order: np.ndarray  # (N,) int64
    where: str = "the key table"  # its address, for messages

    def find(self, keys: np.ndarray) -> np.ndarray:
        """Return the row (B,) int64 of each key (B, 32) uint8, -1 for a key that has none.

        Raises CacheError if a key that was compared is damaged.
        """
        wanted = leading(keys)
        queue = np.argsort(wanted)  # ascending, so that the search touches each page once
        places = np.empty(len(keys), np.int64)
        places[queue] = np.searchsorted(self.prefixes, wanted[queue])
        rows = np.full(len(keys), -1, np.int64)
        pending = queue
        while len(pending):
            pending = pending[places[pending] < len(self.order)]
            pending = pending[self.prefixes[places[pending]] == wanted[pending]]
            candidates = self.order[places[pending]]
            same = same_rows(self.checked(candidates)[:, KEY], keys[pending])
            rows[pending[same]] = candidates[same]
            pending = pending[~same]  # another key with the same eight bytes: try the next place
            places[pending] += 1
        return rows

    def checked(self, rows: np.ndarray) -> np.ndarray:
        """Return the facts (B, 64) of rows (B,). Raises CacheError if they are damaged."""
        try:
            facts: np.ndarray = self.facts[rows]
            sound = (row_sums(facts) == self.sums[rows]).all()
        except IndexError:
            sound = False
        if not sound:
            raise CacheError(f"{self.where}: keys differ from their checksums; {repair_hint(build_again=False)}")
        return facts

    def is_whole(self) -> bool:
        """Return whether the whole table is undamaged."""
        if len({len(self.facts), len(self.sums), len(self.prefixes), len(self.order)}) > 1:
            return False
        for start in range(0, len(self.order), _BLOCK):
            rows = self.order[start : start + _BLOCK]
            try:
                facts = self.checked(rows)
            except CacheError:
                return False
            if (leading(facts) != self.prefixes[start : start + _BLOCK]).any():
                return False
        return bool((self.prefixes[1:] >= self.prefixes[:-1]).all())


def row_sums(rows: np.ndarray) -> np.ndarray:
    """Return a checksum (N,) uint64 per row: the sum of its words of 8, 4, 2 or 1 bytes, as its length allows.

    It detects flipped bits, zeroed pages and exchanged rows; it is no cryptographic digest.
    """
    width = rows.shape[1] * rows.itemsize if rows.ndim == 2 else 0
    word = next(size for size in (8, 4, 2, 1) if width % size == 0)
    words = np.ascontiguousarray(rows).view(f"u{word}")
    sums: np.ndarray = np.einsum("ij->i", words, dtype=np.uint64)  # twice as fast as words.sum
    return sums


def same_rows(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which rows of two (N, 8 * W) uint8 arrays are equal, (N,) bool."""
    same: np.ndarray = np.ascontiguousarray(some).view(np.uint64) == np.ascontiguousarray(others).view(np.uint64)
    every: np.ndarray = np.logical_and.reduce([same[:, word] for word in range(same.shape[1])])
    return every


def leading(keys: np.ndarray) -> np.ndarray:
    """Return the first eight bytes of each key (B, >= 8) uint8 as a number (B,) uint64, which sorts as the keys do."""
    numbers: np.ndarray = np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    return numbers


def canonical_rows(facts: np.ndarray) -> np.ndarray:
    """Return the canonical row of each key (K,), ascending by key: the one with the smallest picture digest, the first
    one among equals."""
    prefixes = leading(facts)
    order = np.argsort(prefixes, kind="stable")
    ascending = prefixes[order]
    if (ascending[1:] != ascending[:-1]).all():
        return order
    words = np.ascontiguousarray(facts).view(">u8").astype(np.uint64)  # (N, 8)
    order = np.lexsort(words.T[::-1])
    keys = words[order, :4]
    first: np.ndarray = order[np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))]
    return first


def key_table(facts: np.ndarray) -> KeyTable:
    """Return the table of facts (N, 64) whose keys are distinct."""
    order = canonical_rows(facts)
    return KeyTable(facts, row_sums(facts), leading(facts)[order], order)


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
