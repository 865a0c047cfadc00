"""The balance of a loss's terms: a teacher's term gets a weight that makes its gradient as large as the task's.

Gradients are compared at the pooled output s, where the terms meet, by their norms over the rows of a step; backward
passes through the model itself are not needed. A step is weighted by running means of the norms of the steps before it,
so the weights depend neither on the number of ranks, whose squared norms are summed, nor on the parts of a batch. The
first step only measures: the terms that are balanced have the weight 0 in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DECAY = 0.95
LARGEST = 1000.0  # weight; so that a term without a gradient doesn't get an infinite one


class GradientBalance:
    """Running means of the gradient norms at s of the terms of a loss, (T,). The first term is the task; `balanced`
    are the places of those that are balanced with it, and the other terms have the weight 1."""

    def __init__(self, terms: int, balanced: Sequence[int], device: torch.device, ranks: int = 1) -> None:
        self._balanced = list(balanced)
        self._norms = torch.zeros(terms, device=device)
        self._squares = torch.zeros(terms, device=device)  # of the current step, on this rank
        self._ranks = ranks

    def scales(self) -> Tensor:
        """Return the weights (T,) of the current step."""
        scales = torch.ones_like(self._norms)
        ratios = self._norms[0] / self._norms[self._balanced]
        scales[self._balanced] = ratios.nan_to_num(0.0, 0.0, 0.0).clamp(max=LARGEST)
        return scales

    def measure(self, terms: Tensor, pooled: Tensor, weight: float) -> None:
        """Add the gradients at s of a part of the step's rows.

        Args:
            terms: (T,), means over the rows of the part, over all ranks.
            pooled: (B, H), s of this rank's rows, from which the terms were computed.
            weight: the part's share of the rows of the step.
        """
        for place in (0, *self._balanced):
            (gradient,) = torch.autograd.grad(terms[place], pooled, retain_graph=True, allow_unused=True)
            if gradient is not None:
                self._squares[place] += (weight * gradient.detach().float()).square().sum()

    def end_step(self) -> None:
        """Update the running means with what was measured in this step. All ranks must call it."""
        if self._ranks > 1:
            torch.distributed.all_reduce(self._squares)
        self._norms.lerp_(self._squares.sqrt(), 1 - DECAY)
        self._squares.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Return what the weights of the next step depend on."""
        return {"norms": self._norms.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""
        self._norms = state["norms"].to(self._norms.device)
