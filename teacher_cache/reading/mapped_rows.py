"""TODO."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from teacher_cache.reading.key_table import row_sums
from teacher_cache.reading.matrix_store import Lease
from teacher_cache.reading.rows import damaged


@dataclass(frozen=True)
class MappedRows:
    """A matrix mapped into memory. `lease` keeps its file; damage sets that aside, so that it is decoded anew."""

    matrix: np.ndarray  # (N, L), read-only
    sums: np.ndarray
    lease: Lease | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L)."""
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """float16 or float32."""
        return self.matrix.dtype

    def take(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """See Rows; at two thirds of the speed of a gather in memory once the file is there."""
        if rows.astype(np.uint64).max(initial=0) >= max(1, len(self.matrix)):  # a negative one is very large
            raise IndexError(f"rows from {rows.min()} to {rows.max()}, of {len(self.matrix)}")
        taken = np.empty((len(rows), self.shape[1]), self.dtype) if out is None else out
        for start in range(0, len(rows), _BLOCK):
            part, block = rows[start : start + _BLOCK], taken[start : start + _BLOCK]
            self._gatherer.take(part, block)
            if (sums_of(block) != self.sums.take(part)).any():
                raise damaged(self.lease, str(getattr(self.matrix, "filename", "the decoded features")))
        return taken

    @cached_property
    def _gatherer(self) -> Gatherer:
        return Gatherer(self.matrix)

    def warm(self) -> None:
        """Read the file once from front to back where it isn't in memory: a cold random row costs a seek, and a
        hundred times its share of this."""
        path = Path(str(getattr(self.matrix, "filename", "")))
        if path.is_file() and not _is_resident(path):
            scratch = bytearray(_PIECE)
            with path.open("rb", buffering=0) as stream:
                while stream.readinto(scratch):
                    pass


def _is_resident(path: Path) -> bool:
    """Whether a sample of a file's pages is in memory; True where the system can't say."""
    if not hasattr(os, "preadv") or not hasattr(os, "RWF_NOWAIT"):
        return True
    size, buffer = path.stat().st_size, bytearray(1)
    with path.open("rb", buffering=0) as stream:
        for part in range(_SAMPLE):
            try:
                os.preadv(stream.fileno(), [buffer], size * part // _SAMPLE, os.RWF_NOWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True
    return True


_BLOCK = 2048  # rows taken and checked together: they stay in the processor's cache


_PIECE = 8 << 20  # bytes read ahead at once


_SAMPLE = 64  # pages asked after


class Gatherer:
    """Takes rows of a matrix (N, L) of numbers."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = matrix
        self._tensor: Any = None

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Rows (B,), which have to lie within the matrix, into `out` (B, L)."""
        torch = _torch()
        plain = all(array.flags.c_contiguous and array.flags.writeable for array in (rows, out))
        if torch is None or not plain or rows.dtype != np.int64 or out.dtype != self._matrix.dtype:
            np.take(self._matrix, rows, axis=0, out=out, mode="clip")  # "raise" would copy once more
            return
        if self._tensor is None:
            with warnings.catch_warnings():  # that the matrix can't be written to, which nobody does
                warnings.simplefilter("ignore", UserWarning)
                self._tensor = torch.from_numpy(self._matrix)
        torch.index_select(self._tensor, 0, torch.from_numpy(rows), out=torch.from_numpy(out))


def _torch() -> Any:
    """torch, where this process has imported it to the end."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "index_select") else None


def sums_of(rows: np.ndarray) -> np.ndarray:
    """`row_sums` of rows (B, L) in memory that can be written to."""
    torch = _torch()
    if torch is None or rows.shape[1] * rows.itemsize % 8 or not rows.flags.c_contiguous:
        return row_sums(rows)
    sums: np.ndarray = torch.from_numpy(rows.view(np.int64)).sum(1).numpy().view(np.uint64)
    return sums
