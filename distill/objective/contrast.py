"""The contrast: a student's projection has to find its own row's features among those of a whole bank (InfoNCE).

The bank has the features of all pictures, or a part of them that is drawn anew for each epoch where they are many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from distill.dataset.moving import moved
from distill.dataset.order import generator_of
from distill.dataset.sampled_features import FeatureTable, SampledFeatures
from distill.objective.cross_fitting import Inputs
from distill.objective.targets import feature_blocks

BANK = 16_384  # features
TEMPERATURE = 0.1


@dataclass(frozen=True)
class Bank:
    """Features that a row's own are contrasted with."""

    points: Tensor  # (S, D), unit norm
    pictures: Tensor  # (S,) int64; equal numbers are the same picture


@torch.no_grad()
def bank_of(
    features: FeatureTable, inputs: Inputs, pictures: np.ndarray, device: torch.device, key: str, seed: int, epoch: int
) -> Bank:
    """Return the bank of an epoch: all features, or BANK of them, a pure function of (data digest, seed, epoch).

    Args:
        features: (N, L), of which the bank takes those of all M pictures.
        inputs: what is contrasted of (B, L) features: (B, D), on `device`.
        pictures: (M,) which features are of the same picture.
        device: where the bank is kept.
        key: the digest of the data.
        seed: the seed of the draw.
        epoch: the epoch.
    """
    table = features.features if isinstance(features, SampledFeatures) else features
    count = table.shape[0]
    chosen = np.ones(count, bool)
    if count > BANK:
        chosen[generator_of("armada-bank/1", key, seed, epoch).permutation(count)[BANK:]] = False
    points, numbers = [], []
    for index, part in feature_blocks(table, epoch):
        wanted = np.flatnonzero(chosen[index])
        if len(wanted):
            taken = part[torch.from_numpy(wanted).to(part.device)]
            points.append(F.normalize(inputs(moved(taken, device)), dim=1))
            numbers.append(pictures[index[wanted]])
    return Bank(torch.cat(points), moved(np.concatenate(numbers), device))


def contrast_loss(student: Tensor, own: Tensor, pictures: Tensor, bank: Bank) -> Tensor:
    """Return the mean of -log(exp(c_own / T) / (exp(c_own / T) + sum over the bank of exp(c / T))), c a cosine.

    Features of the row's own picture are left out of the sum, so that the same picture is never a wrong answer.

    Args:
        student: (B, D), the projections of the student; only they get gradients.
        own: (B, D), the features of each row.
        pictures: (B,) the picture of each row.
        bank: the features to contrast with.
    """
    student = F.normalize(student, dim=1)
    right = (student * F.normalize(own, dim=1)).sum(1, keepdim=True)
    others = (student @ bank.points.T).masked_fill(pictures[:, None] == bank.pictures, float("-inf"))
    logits = torch.cat([right, others], 1) / TEMPERATURE  # (B, 1 + S)
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
