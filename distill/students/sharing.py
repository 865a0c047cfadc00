"""An evaluation shared by all processes: each takes every n-th batch, and all get all results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from teacher_cache import progress

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _own(value: Any) -> list[Any]:
    return [value]


@dataclass(frozen=True)
class Shared:
    """The processes that share an evaluation, and the precision in which they compute.

    `gather` returns the values of all processes; all of them have to call it.
    """

    rank: int = 0
    ranks: int = 1
    precision: str = "fp32"  # or bf16 or fp16, by autocast
    gather: Callable[[Any], list[Any]] = _own
    batch_size: int | None = None  # rows that a process computes at once; None for what each evaluation has by default

    def batches(self, order: np.ndarray, batch_size: int) -> list[np.ndarray]:
        """Return this process's batches of the rows in `order` (N,); `batch_size` is the default."""
        batch_size = self.batch_size or batch_size
        starts = range(self.rank * batch_size, len(order), self.ranks * batch_size)
        return [order[start : start + batch_size] for start in starts]

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context in which the model runs."""
        kind = _TYPES.get(self.precision)
        return torch.autocast(device.type, kind) if kind else nullcontext()

    def bar(self, batches: Sequence[np.ndarray], what: str) -> AbstractContextManager[Any]:
        """Return a progress bar over the rows of this process; only the first process shows one."""
        if self.rank:
            return nullcontext(_Silent())
        bar: AbstractContextManager[Any] = progress(sum(map(len, batches)), what, "row")
        return bar


class _Silent:
    def update(self, count: int) -> None:
        """Show nothing."""


ALONE = Shared()
