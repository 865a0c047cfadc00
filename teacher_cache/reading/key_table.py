"""The key table: it finds the matrix row of an image key. It compares the whole key with that of the row, so that
neither a collision nor a damaged table leads to the row of another key.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.digests import canonical_rows, find_rows, leading

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
        return find_rows(self.prefixes, self.order, keys, lambda rows: self.checked(rows)[:, KEY])

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


def key_table(facts: np.ndarray) -> KeyTable:
    """Return the table of facts (N, 64) whose keys are distinct."""
    order = canonical_rows(facts)
    return KeyTable(facts, row_sums(facts), leading(facts)[order], order)
