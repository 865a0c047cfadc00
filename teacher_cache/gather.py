"""Rows gathered and summed at memory speed: on torch's threads in a process that uses torch, by numpy in one that
doesn't, since importing torch takes longer than any gather.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

from teacher_cache.key_table import row_sums


def _torch() -> Any:
    """torch, where this process has imported it to the end."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "index_select") else None


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


def sums_of(rows: np.ndarray) -> np.ndarray:
    """`row_sums` of rows (B, L) in memory that can be written to."""
    torch = _torch()
    if torch is None or rows.shape[1] * rows.itemsize % 8 or not rows.flags.c_contiguous:
        return row_sums(rows)
    sums: np.ndarray = torch.from_numpy(rows.view(np.int64)).sum(1).numpy().view(np.uint64)
    return sums
