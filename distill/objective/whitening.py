"""Whitening: a linear transform of teacher features, fitted on the training rows of a view and kept for every student.

Raw features are dominated by their mean and by a few directions. The transform subtracts the mean, keeps the first
principal components, and scales the coordinates of each to its singular value to a power: 1 keeps them as they are,
0 gives all components the same variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.dataset.sampled_features import FeatureTable, SampledFeatures
from distill.objective.targets import feature_blocks

WIDEST = 4096  # features up to this width have their whole covariance computed; wider ones that of SAMPLE rows
SAMPLE = 4096
NEGLIGIBLE = 1e-3  # singular values below this share of the largest are rounding of float32 products


@dataclass(frozen=True)
class Whitening:
    """The transform (z - mean) @ basis, from (B, L) features to D whitened components whose mean square is 1."""

    mean: Tensor  # (L,) float32
    basis: Tensor  # (L, D) float32

    def __call__(self, features: Tensor) -> Tensor:
        """Return the (B, D) whitened components of (B, L) features of any float type."""
        return (features.float() - self.mean) @ self.basis

    def to(self, device: torch.device) -> Whitening:
        """Return the same transform on a device."""
        return Whitening(self.mean.to(device), self.basis.to(device))


@torch.no_grad()
def fit_whitening(features: FeatureTable, components: int, power: float) -> Whitening:
    """Fit the transform on all features (N, L), on the CPU.

    Args:
        features: the features after the control; of several pictures per row, all pictures count.
        components: how many principal components are kept; fewer, if the features have a lower rank.
        power: the power of the singular values that the coordinates are scaled to, from 0 to 1.

    Features that are all equal, as in the control `zero`, are mapped to a single component of zeros.
    """
    table = features.features if isinstance(features, SampledFeatures) else features
    mean, values, axes = _principal(table)  # variances in descending order, (L, R)
    kept = int((values.sqrt() > NEGLIGIBLE * max(float(values[0].sqrt()), 1e-30)).sum())
    kept = min(kept, components)
    if kept == 0:
        return Whitening(mean.float(), torch.zeros(len(mean), 1))
    deviations = values[:kept].sqrt()
    scale = deviations.pow(2 * power).mean().rsqrt()
    axes = axes[:, :kept]
    signs = torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))  # an eigenvector's sign is arbitrary
    basis = (axes * signs * deviations.pow(power - 1) * scale).float()
    return Whitening(mean.float(), basis.contiguous())  # laid out as when it is read: else products round otherwise


def _principal(table: FeatureTable) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean (L,), and the variances (R,) and axes (L, R) of the principal components, in float64."""
    rows, width = table.shape
    if width > WIDEST:
        return _principal_of_few(table)
    total, products, shift = torch.zeros(width).double(), torch.zeros(width, width).double(), None
    for _, part in feature_blocks(table, 0):
        block = part.cpu().float()
        shift = block.mean(0) if shift is None else shift  # so that float32 products lose nothing to a large mean
        block = block - shift
        total += block.sum(0).double()
        products += (block.T @ block).double()
    assert shift is not None  # a view has rows
    offset = total / rows
    covariance = products / rows - torch.outer(offset, offset)
    values, axes = torch.linalg.eigh(covariance)
    return shift.double() + offset, values.flip(0).clamp(min=0), axes.flip(1)


def _principal_of_few(table: FeatureTable) -> tuple[Tensor, Tensor, Tensor]:
    rows = table.shape[0]
    chosen = np.unique(np.linspace(0, rows - 1, min(rows, SAMPLE)).astype(np.int64))
    parts = [part[torch.from_numpy(np.isin(index, chosen))].cpu() for index, part in feature_blocks(table, 0)]
    sample = torch.cat(parts).double()
    mean = sample.mean(0)
    sample -= mean
    values, sides = torch.linalg.eigh(sample @ sample.T / len(sample))  # of the smaller of the two Gram matrices
    values, sides = values.flip(0).clamp(min=0), sides.flip(1)
    axes = sample.T @ sides
    return mean, values, axes / axes.norm(dim=0).clamp(min=1e-30)
