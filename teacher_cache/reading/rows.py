"""The interface of feature rows: a matrix that is mapped into memory or, if it would be too large, the shards.

Both return the same rows, and compare each row with its checksum at every access.
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
        """Return the features (B, L) of rows (B,), in `out` if it is given. Raises CacheError if one is damaged."""
        ...

    def warm(self) -> None:
        """Prepare for many calls of `take`, if that makes them faster."""
        ...


@dataclass(frozen=True)
class ChosenRows:
    """A selection of the rows of `source`, in any order, read when `take` is called."""

    source: FeatureRows
    places: np.ndarray  # (N,) int64: the numbers of the selected rows in `source`

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return len(self.places), self.source.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return self.source.dtype

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See FeatureRows."""
        return self.source.take(self.places.take(rows), out)

    def warm(self) -> None:
        """See FeatureRows."""
        self.source.warm()


def damaged(lease: Lease | None, where: str) -> CacheError:
    """Set a damaged folder aside, so that the next opening decodes it again; return the error to raise."""
    if lease:
        lease.set_aside()
    return CacheError(
        f"{where}: rows differ from their checksums: the file was damaged after it was decoded. It was set aside; run "
        "the same command again, which decodes it again"
    )
