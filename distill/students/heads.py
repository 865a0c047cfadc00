"""The task head of a student, and the parameters that distillation, or a control without a teacher, adds to it.

The task head is found in the stock model and not by a list of architectures.

With a teacher, `StudentHeads` (a projection into the shared manifold and an auxiliary head) are discarded after
training. In the control `parameter-matched`, `WideHead` adds the same parameters to the task head; they are linear in
the pooled output s, so they are folded into the task head before the export without changing its outputs in evaluation
mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.objective.losses import Outputs, scores
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PRETRAINED = ("pooler", "head")  # the names of modules outside the body that the files of a pretrained body have


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


def widen_head(model: PreTrainedModel, features: int, dropout: float, seed: int) -> None:
    """Add as many parameters to the task head as distillation from features of width `features` would add.

    Raise ArmadaError if the model has no linear task head.
    """
    try:
        name, head = task_head(model)
    except ArmadaError as error:
        raise ArmadaError(f"--control parameter-matched: it adds parameters to a task head: {error}") from None
    model.set_submodule(name, WideHead(head, features, dropout, seed))


def fold_head(model: nn.Module) -> None:
    """Fold a wide head into the stock task head. Do nothing if the model has none."""
    for name, module in list(model.named_modules()):
        if isinstance(module, WideHead):
            model.set_submodule(name, module.folded())


def task_head(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Return the name and the linear layer at the end of a task head. Raise ArmadaError if there is none."""
    name, layer = last_layer(model)
    return (f"{name}.head", layer.head) if isinstance(layer, WideHead) else (name, layer)


def last_layer(model: PreTrainedModel) -> tuple[str, nn.Linear | WideHead]:
    """Return the name and the last layer of a classifier's task head: what enters it is the pooled output s.

    It is the last linear layer outside the body that has as many outputs as the configuration has labels. Raise
    ArmadaError if there is none.
    """
    found = None
    for name, module in _outside(model):
        if isinstance(module, WideHead):
            return name, module
        if isinstance(module, nn.Linear) and module.out_features == model.config.num_labels:
            found = name, module
    if found is None:
        raise ArmadaError(
            f"no task head in {type(model).__name__} ({model.config.model_type}); expected a classifier whose last "
            f"layer is an nn.Linear outside {model.base_model_prefix!r} with {model.config.num_labels} outputs, one "
            "per class"
        )
    return found


def head_modules(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the modules that make up a classifier's task head, which every task trains in full.

    These are the modules with weights outside the body, or, if the model does not tell its body, the last one. A
    pooler, and the prediction head of ModernBERT, belong to what was pretrained, unless they are the last layer.
    """
    last = last_layer(model)[0].partition(".")[0]
    if not has_body(model):
        return (last,)
    found = [name for name, module in _children(model) if any(True for _ in module.parameters())]
    return tuple(name for name in found if name == last or name not in PRETRAINED)


def dropouts(model: PreTrainedModel) -> list[nn.Dropout]:
    """Return the dropout layers outside the body."""
    return [module for _, module in _outside(model) if isinstance(module, nn.Dropout)]


def has_body(model: PreTrainedModel) -> bool:
    """Return True if the model tells its body from its head, as all models of transformers do."""
    return model.base_model_prefix in dict(model.named_children())


def _children(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    return [(name, module) for name, module in model.named_children() if name != model.base_model_prefix]


def _outside(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules outside the body with their names, in the order in which the model declares them."""
    for child, module in _children(model):
        yield from module.named_modules(prefix=child)
