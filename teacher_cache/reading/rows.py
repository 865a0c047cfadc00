"""Where features come from: a matrix mapped into memory, or, where that would be too large, the shards themselves.

Both give the same rows, and each row is compared with its checksum every time it is taken: no other row is ever given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from teacher_cache.errors import CacheError
from teacher_cache.reading.matrix_store import Lease


class FeatureRows(Protocol):
    """(N, L) features of one number type, taken by row number."""

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        ...

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The features (B, L) of rows (B,), into `out` where it is given. Raises CacheError where one was damaged."""
        ...

    def warm(self) -> None:
        """Make the next takes fast, where something can be done for it."""
        ...


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of others, in an order of their own, taken when they are asked for."""

    source: FeatureRows
    places: np.ndarray  # (N,) int64: their numbers there

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return len(self.places), self.source.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return self.source.dtype

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See Rows."""
        return self.source.take(self.places.take(rows), out)

    def warm(self) -> None:
        """See Rows."""
        self.source.warm()


def damaged(lease: Lease | None, where: str) -> CacheError:
    """Set a folder aside, so that it is decoded anew; returns the error that says so."""
    if lease:
        lease.set_aside()
    return CacheError(
        f"{where}: rows differ from their checksums: the file was damaged since it was decoded. It was set aside; run "
        "the same command again, which decodes it anew"
    )
