"""Rows of a matrix that is mapped into memory, gathered with torch if it is imported, else with numpy, and checked."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from teacher_cache.reading.key_table import row_sums
from teacher_cache.reading.matrix_store import Lease
from teacher_cache.reading.rows import damaged

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 2048  # rows gathered and checked at once: they stay in the processor's cache
_READ_BYTES = 8 << 20  # read at once to warm a file
_SAMPLED_PAGES = 64  # pages that `_is_resident` looks at


@dataclass(frozen=True)
class MappedRows:
    """A matrix that is mapped into memory. `lease` protects its file from removal; a damaged file is set aside, so that
    the next opening decodes it again."""

    matrix: np.ndarray  # (N, L), read-only
    sums: np.ndarray  # (N,) uint64: `row_sums` of the matrix
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
        """See FeatureRows. Once the file is in memory, two thirds as fast as gathering rows of an array.

        Raises IndexError if a row number is out of range.
        """
        if rows.astype(np.uint64).max(initial=0) >= max(1, len(self.matrix)):  # a negative number becomes a large one
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
        """Read the file from front to back if it is not in memory: per row, this takes a hundredth of the time of
        reading rows in random order."""
        path = Path(str(getattr(self.matrix, "filename", "")))
        if path.is_file() and not _is_resident(path):
            scratch = bytearray(_READ_BYTES)
            with path.open("rb", buffering=0) as stream:
                while stream.readinto(scratch):
                    pass


def _is_resident(path: Path) -> bool:
    """Return whether a sample of a file's pages is in memory; True if the system cannot tell."""
    if not hasattr(os, "preadv") or not hasattr(os, "RWF_NOWAIT"):
        return True
    size, buffer = path.stat().st_size, bytearray(1)
    with path.open("rb", buffering=0) as stream:
        for part in range(_SAMPLED_PAGES):
            try:
                os.preadv(stream.fileno(), [buffer], size * part // _SAMPLED_PAGES, os.RWF_NOWAIT)
            except BlockingIOError:
                return False
            except OSError:
                return True
    return True


class Gatherer:
    """Gathers rows of a matrix (N, L)."""

    def __init__(self, matrix: np.ndarray) -> None:
        self._matrix = matrix
        self._tensor: Tensor | None = None

    def take(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows (B,), whose numbers must be in range, into `out` (B, L)."""
        torch = _torch()
        plain = all(array.flags.c_contiguous and array.flags.writeable for array in (rows, out))
        if torch is None or not plain or rows.dtype != np.int64 or out.dtype != self._matrix.dtype:
            np.take(self._matrix, rows, axis=0, out=out, mode="clip")  # mode "raise" would make one more copy
            return
        if self._tensor is None:
            with warnings.catch_warnings():  # torch warns that the matrix is read-only; nothing writes to it
                warnings.simplefilter("ignore", UserWarning)
                self._tensor = torch.from_numpy(self._matrix)
        torch.index_select(self._tensor, 0, torch.from_numpy(rows), out=torch.from_numpy(out))


def _torch() -> ModuleType | None:
    """Return torch if this process has imported it completely."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "index_select") else None


def sums_of(rows: np.ndarray) -> np.ndarray:
    """Return `row_sums` of writable rows (B, L), with torch if it is imported."""
    torch = _torch()
    if torch is None or rows.shape[1] * rows.itemsize % 8 or not rows.flags.c_contiguous:
        return row_sums(rows)
    sums: np.ndarray = torch.from_numpy(rows.view(np.int64)).sum(1).numpy().view(np.uint64)
    return sums
