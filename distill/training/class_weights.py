"""The weights of the classes in the task loss of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from teacher_cache import ArmadaError

BALANCED = ("balanced",)


def class_weights_of(
    words: Sequence[str] | None, labels: Sequence[float], classes: int, device: torch.device
) -> Tensor | None:
    """Return the weight (C,) of each class; its mean over the N training rows is 1, so the loss keeps its scale.

    Args:
        words: "balanced", for weights in inverse proportion to the frequency of a class; C numbers; None for none.
        labels: (N,) class ids of the training rows.
        classes: C; a class without a training row has the weight 1 if they are balanced.
        device: where the weights are put.

    Raise ArmadaError if there are not C numbers, or none is the weight of a training row.
    """
    if words is None:
        return None
    counts = torch.bincount(torch.tensor(labels), minlength=classes).double()
    if tuple(words) == BALANCED:
        present = int((counts > 0).sum())
        weights = torch.where(counts > 0, len(labels) / (present * counts.clamp(min=1)), 1.0)
        return weights.float().to(device)
    weights = torch.tensor([float(word) for word in words], dtype=torch.float64)
    if len(weights) != classes:
        raise ArmadaError(f"--class-weights: expected {classes} numbers, one for each class, found {len(weights)}")
    total = float(weights @ counts) / len(labels)
    if total <= 0:
        raise ArmadaError("--class-weights: expected a weight above 0 for the class of a training row, found none")
    return (weights / total).float().to(device)
