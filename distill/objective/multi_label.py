"""The losses of a task whose rows have any number of K labels: each label is a binary question of its own.

The task loss is the binary cross-entropy. Output alignment is the binary Kullback-Leibler divergence of each label, the
one-versus-all reduction of Yang et al., "Multi-Label Knowledge Distillation" (ICCV 2023, arXiv 2308.06453), with the
temperature of Hinton et al. (arXiv 1503.02531). The reference of ARMADA has no multi-label tasks.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def label_set_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy, over rows and labels, of (B, K) logits against (B, K) 0 or 1."""
    return label_set_losses(logits, labels).mean()


def label_set_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy of each row, (..., B), the mean over K labels: of (..., B, K) logits, for example
    of several aligners, against (B, K) 0 or 1."""
    wanted = labels.to(logits.dtype).expand_as(logits)
    return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(-1)


def label_set_alignment(aligner: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 * KL(sigmoid(a / T) || sigmoid(s / T)), the mean over rows and labels of (B, K) logits a and s.

    The divergence is that of two Bernoulli variables, p log(p / q) + (1 - p) log((1 - p) / (1 - q)). T^2 keeps the size
    of its gradient about the same whatever the temperature T.
    """
    a, s = aligner / temperature, student / temperature
    p = a.sigmoid()
    divergence = p * (F.logsigmoid(a) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-a) - F.logsigmoid(-s))
    return temperature**2 * divergence.mean()


def label_set_distance(aligner: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 * MSE(sigmoid(a/T), sigmoid(s/T)) of (B, K) logits, as of `losses.output_distance` for one label."""
    return temperature**2 * F.mse_loss((student / temperature).sigmoid(), (aligner / temperature).sigmoid())
