"""The scale of a regression: a student learns scores that are standardised by the training rows.

So the loss and the initial weights fit labels of any range and sign. The scale is folded into the task head before the
export, whose scores are in the unit of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Scale:
    """label = mean + deviation * score."""

    mean: float = 0.0
    deviation: float = 1.0

    def standardised(self, labels: Sequence[float]) -> list[float]:
        """Return the scores (N,) of labels (N,)."""
        return [(float(label) - self.mean) / self.deviation for label in labels]


AS_IS = Scale()


def scale_of(labels: Sequence[float], centred: bool = True) -> Scale:
    """Return the scale of training labels (N,): scores have deviation 1 and, if `centred`, mean 0.

    Without `centred`, for a task head that has no bias, scores have a root mean square of 1. The deviation of equal
    labels is 1.
    """
    values = np.asarray(labels, np.float64)
    mean = float(values.mean()) if centred else 0.0
    deviation = float(np.sqrt(np.square(values - mean).mean()))
    return Scale(mean, deviation if deviation > 0 else 1.0)


@torch.no_grad()
def fold_scale(head: nn.Linear, scale: Scale) -> None:
    """Change a task head in place from scores to labels."""
    head.weight.mul_(scale.deviation)
    if head.bias is not None:
        head.bias.mul_(scale.deviation).add_(scale.mean)


@torch.no_grad()
def unfold_scale(head: nn.Linear, scale: Scale) -> None:
    """Change a task head in place from labels to scores: the inverse of `fold_scale`."""
    head.weight.div_(scale.deviation)
    if head.bias is not None:
        head.bias.sub_(scale.mean).div_(scale.deviation)
