"""The balance of a loss's terms: each teacher's term gets a weight that makes its gradient as large as the task's.

Gradients are compared at the pooled output s, where the terms meet, by their norms over the rows of a step; backward
passes through the model itself are not needed. A step is weighted by running means of the norms of the steps before it,
so the weights depend neither on the number of ranks, whose squared norms are summed, nor on the parts of a batch. The
first step only measures: its teacher's terms have the weight 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DECAY = 0.95
LARGEST = 1000.0  # weight; so that a term without a gradient doesn't get an infinite one


class GradientBalance:
    """Running means of the gradient norms at s, (T,): of the task first, then of the teacher's terms."""

    def __init__(self, terms: int, device: torch.device, ranks: int = 1) -> None:
        self._norms = torch.zeros(terms, device=device)
        self._squares = torch.zeros(terms, device=device)  # of the current step, on this rank
        self._ranks = ranks

    def scales(self) -> Tensor:
        """Return the weights (T,) of the current step; the task's is 1."""
        scales = (self._norms[0] / self._norms).nan_to_num(0.0, 0.0, 0.0).clamp(max=LARGEST)
        scales[0] = 1.0
        return scales

    def measure(self, terms: Tensor, pooled: Tensor, weight: float) -> None:
        """Add the gradients at s of a part of the step's rows.

        Args:
            terms: (T,), means over the rows of the part, over all ranks.
            pooled: (B, H), s of this rank's rows, from which the terms were computed.
            weight: the part's share of the rows of the step.
        """
        for place, term in enumerate(terms.unbind()):
            (gradient,) = torch.autograd.grad(term, pooled, retain_graph=True, allow_unused=True)
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
