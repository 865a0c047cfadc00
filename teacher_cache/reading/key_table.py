"""The key table: which matrix row belongs to an image key. It compares whole keys with the row's own, so that neither a
collision nor a damaged table leads to another key's row.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from teacher_cache.errors import CacheError
from teacher_cache.format.arrow import one_array

KEY, PICTURE = slice(0, 32), slice(32, 64)  # the columns of facts
_BLOCK = 1 << 16  # rows looked at together


@dataclass(frozen=True)
class KeyTable:
    """Row i of `facts` belongs to matrix row i; `prefixes` ascend, and prefixes[j] begins the key of row order[j]."""

    facts: np.ndarray  # (N, 64) uint8: image key, sha256 of the picture that the feature came from
    sums: np.ndarray  # (N,) uint64, `row_sums` of facts
    prefixes: np.ndarray  # (N,) uint64: a key's first eight bytes
    order: np.ndarray  # (N,) int64
    where: str = "the key table"

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The row of each key (B, 32) uint8, (B,) int64; -1 where there is none. Raises CacheError for damaged keys."""
        wanted = leading(keys)
        queue = np.argsort(wanted)  # in order, a search touches each page once
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
            pending = pending[~same]  # eight equal bytes of another key: look at the next
            places[pending] += 1
        return rows

    def checked(self, rows: np.ndarray) -> np.ndarray:
        """The facts of rows, (B, 64). Raises CacheError where they were damaged."""
        try:
            facts: np.ndarray = self.facts[rows]
            sound = (row_sums(facts) == self.sums[rows]).all()
        except IndexError:
            sound = False
        if not sound:
            raise CacheError(f'{self.where}: keys differ from their checksums; run "armada cache verify --repair"')
        return facts

    def is_whole(self) -> bool:
        """Whether all of it is as it was written."""
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
    """A checksum a row, (N,) uint64: the sum of its words, as wide as its length allows. It finds a flipped bit, a
    zeroed page and a row in another's place; it is no digest."""
    width = rows.shape[1] * rows.itemsize if rows.ndim == 2 else 0
    word = next(size for size in (8, 4, 2, 1) if width % size == 0)
    words = np.ascontiguousarray(rows).view(f"u{word}")
    sums: np.ndarray = np.einsum("ij->i", words, dtype=np.uint64)  # half the time of words.sum
    return sums


def same_rows(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which rows of two (N, 8 * W) uint8 arrays are equal, (N,) bool."""
    same: np.ndarray = np.ascontiguousarray(some).view(np.uint64) == np.ascontiguousarray(others).view(np.uint64)
    every: np.ndarray = np.logical_and.reduce([same[:, word] for word in range(same.shape[1])])
    return every


def leading(keys: np.ndarray) -> np.ndarray:
    """The first eight bytes of each key (B, >= 8) uint8 as a number, (B,) uint64: it sorts as the keys do."""
    numbers: np.ndarray = np.ascontiguousarray(keys[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    return numbers


def canonical_rows(facts: np.ndarray) -> np.ndarray:
    """One row of each key, ascending by key: the one of the smallest picture digest, the first among equals."""
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
    """A table of rows whose keys are distinct, in memory."""
    order = canonical_rows(facts)
    return KeyTable(facts, row_sums(facts), leading(facts)[order], order)


def from_hex(column: Sequence[str] | pa.ChunkedArray | pa.Array, where: str) -> np.ndarray:
    """Digests in hexadecimal as bytes, (N, 32) uint8. Raises CacheError where one is none."""
    array = one_array(column) if isinstance(column, pa.ChunkedArray | pa.Array) else pa.array(column, pa.string())
    _, ends, digits = array.buffers()
    offsets = np.frombuffer(ends or bytes(4), np.int32)[array.offset : array.offset + len(array) + 1]
    try:
        if array.null_count or (np.diff(offsets) != 64).any():
            raise binascii.Error
        data = binascii.unhexlify(memoryview(digits or b"")[offsets[0] : offsets[-1]])
    except binascii.Error:
        raise CacheError(f"{where}: expected digests of 64 hexadecimal digits; the shard isn't ours") from None
    return np.frombuffer(data, np.uint8).reshape(-1, 32)


def to_hex(digests: np.ndarray) -> list[str]:
    """Digests (N, 32) uint8 in hexadecimal."""
    text = np.ascontiguousarray(digests).tobytes().hex()
    return [text[start : start + 64] for start in range(0, len(text), 64)]
