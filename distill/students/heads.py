"""The parameters that distillation adds to a student, and the control that adds as many without a teacher.

With a teacher, `StudentHeads` (a projection into the shared manifold and an auxiliary head) are discarded after
training. In the control `parameter-matched`, `WideHead` adds the same parameters to the task head; they are linear in
the pooled output s, so they are folded into the task head before the export without changing its outputs in evaluation
mode.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distill.objective.losses import Outputs, scores
from teacher_cache import ArmadaError


class StudentHeads(nn.Module):
    """The projection P s into the manifold of width L (unconstrained, no bias), and an auxiliary head on it.

    With `relu`, the outputs of a regression pass a ReLU, as in the reference.
    """

    def __init__(self, hidden: int, features: int, labels: int, dropout: float = 0.1, relu: bool = False) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden, features, bias=False)
        self.aux_head = nn.Linear(features, labels)
        self.dropout = nn.Dropout(dropout)
        self.relu = relu

    def initialise(self, seed: int) -> None:
        """Initialise the weights from N(0, 0.02) and the biases with 0. Global random generators are not changed."""
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.projection, self.aux_head):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
        nn.init.zeros_(self.aux_head.bias)

    def forward(self, pooled: Tensor, logits: Tensor) -> Outputs:
        """Return the outputs of the student, given s (B, H) and the logits (B, C) of its task head."""
        projection = self.projection(pooled)
        return Outputs(*scores(logits, self.aux_head(self.dropout(projection)), self.relu), projection)


class ProjectionHead(nn.Module):
    """The projection P s alone, (B, H) to (B, D), without bias; initialised from N(0, 0.02)."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden, width, bias=False)

    def initialise(self, seed: int) -> None:
        """Initialise the weights. Global random generators are not changed."""
        nn.init.normal_(self.projection.weight, 0.0, 0.02, generator=torch.Generator().manual_seed(seed))

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the projection of s."""
        projected: Tensor = self.projection(pooled)
        return projected


class WideHead(nn.Module):
    """A task head with added parameters: maps pooled outputs s (B, H) to head(s) + aux_head(P s), (B, C)."""

    def __init__(self, head: nn.Linear, features: int, dropout: float, seed: int) -> None:
        super().__init__()
        self.head = head
        self.added = StudentHeads(head.in_features, features, head.out_features, dropout)
        self.added.initialise(seed)
        self.has_bias = head.bias is not None  # the stock head of a decoder has no bias, so none can be folded into it
        self.added.aux_head.bias.requires_grad_(self.has_bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the logits (B, C)."""
        narrow: Tensor = self.head(pooled)
        wide: Tensor = self.added.aux_head(self.added.dropout(self.added.projection(pooled)))
        return narrow + wide

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """Return the task head with the added parameters folded in; it computes the same logits in evaluation mode."""
        self.head.weight.add_(self.added.aux_head.weight @ self.added.projection.weight)
        if self.has_bias:
            self.head.bias.add_(self.added.aux_head.bias)
        return self.head


def widen_head(model: nn.Module, features: int, dropout: float, seed: int) -> None:
    """Add as many parameters to the task head as distillation from features of width `features` would add.

    Raise ArmadaError if the model has no linear task head.
    """
    name, head = task_head(model)
    model.set_submodule(name, WideHead(head, features, dropout, seed))


def fold_head(model: nn.Module) -> None:
    """Fold a wide head into the stock task head. Do nothing if the model has none."""
    for name, module in list(model.named_modules()):
        if isinstance(module, WideHead):
            model.set_submodule(name, module.folded())


def task_head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return the name and the last layer of a classifier's task head. Raise ArmadaError if it is not linear."""
    for name in ("classifier.out_proj", "classifier", "score"):
        try:
            head = model.get_submodule(name)
        except AttributeError:
            continue
        if isinstance(head, nn.Linear):
            return name, head
    raise ArmadaError(f"expected a student with a linear task head, found {type(model).__name__}")
