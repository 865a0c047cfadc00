"""The parameters that distillation adds, without a teacher: a projection and a second head, put beside the task head
while a student trains and folded into it before the export.

Both are linear in s, so the folded head computes exactly what the wide one did in evaluation mode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill.objective.losses import Outputs, positive_if_regression
from teacher_cache import ArmadaError


class WideHead(nn.Module):
    """(B, H) pooled rows into head(s) + aux_head(P s), (B, C)."""

    def __init__(self, head: nn.Linear, features: int, dropout: float, seed: int) -> None:
        super().__init__()
        self.head = head
        self.added = StudentHeads(head.in_features, features, head.out_features, dropout)
        self.added.start(torch.Generator().manual_seed(seed))
        self.has_bias = head.bias is not None  # a decoder's stock head has none to fold one into
        self.added.aux_head.bias.requires_grad_(self.has_bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """The logits (B, C)."""
        narrow: Tensor = self.head(pooled)
        wide: Tensor = self.added.aux_head(self.added.dropout(self.added.projection(pooled)))
        return narrow + wide

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """One linear layer that computes the same."""
        self.head.weight.add_(self.added.aux_head.weight @ self.added.projection.weight)
        if self.has_bias:
            self.head.bias.add_(self.added.aux_head.bias)
        return self.head


def widen_head(model: Any, features: int, dropout: float, seed: int) -> None:
    """Put as many parameters beside the task head as a teacher of (N, L) features would add. Raises ArmadaError."""
    name = _head_name(model)
    _put(model, name, WideHead(model.get_submodule(name), features, dropout, seed))


def fold_head(model: Any) -> None:
    """Fold a wide head into the stock one; nothing where there is none."""
    for name, module in list(model.named_modules()):
        if isinstance(module, WideHead):
            _put(model, name, module.folded())


def _head_name(model: Any) -> str:
    for name in ("classifier.out_proj", "classifier", "score"):
        try:
            if isinstance(model.get_submodule(name), nn.Linear):
                return name
        except AttributeError:
            continue
    raise ArmadaError(
        f"--control parameter-matched: expected a student with a linear task head, found {type(model).__name__}"
    )


def _put(model: Any, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


class StudentHeads(nn.Module):
    """P s into the manifold of width L (unconstrained, no bias), and an auxiliary head on it."""

    def __init__(self, hidden: int, features: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden, features, bias=False)
        self.aux_head = nn.Linear(features, labels)
        self.dropout = nn.Dropout(dropout)

    def start(self, generator: torch.Generator) -> None:
        """Weights from N(0, 0.02), biases 0, from this generator."""
        for layer in (self.projection, self.aux_head):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
        nn.init.zeros_(self.aux_head.bias)

    def forward(self, pooled: Tensor, logits: Tensor) -> Outputs:
        """The student's outputs, given s (B, H) and its task head's logits (B, C)."""
        projection = self.projection(pooled)
        return Outputs(*positive_if_regression(logits, self.aux_head(self.dropout(projection))), projection)
