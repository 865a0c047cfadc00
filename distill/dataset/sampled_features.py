"""Features of several pictures per row, of which each epoch uses one: a pure function of (data digest, seed, epoch)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from distill.dataset.order import generator_of
from teacher_cache import FeatureRows


@dataclass(frozen=True)
class SampledFeatures:
    """The features of all pictures, and for each of N rows the places of its K features among them."""

    features: np.ndarray | Tensor  # (M, L)
    places: np.ndarray  # (N, K) int64
    key: str  # the digest of the data
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L), where N counts rows and not pictures."""
        return len(self.places), self.features.shape[1]

    @property
    def dtype(self) -> np.dtype[np.generic] | torch.dtype:
        """The data type of the features."""
        return self.features.dtype

    def at(self, epoch: int) -> np.ndarray:
        """Return the (N,) places of the features that this epoch uses."""
        rows, pictures = self.places.shape
        sample = generator_of("armada-draw/1", self.key, self.seed, epoch).integers(pictures, size=rows)
        chosen: np.ndarray = self.places[np.arange(rows), sample]
        return chosen

    def on(self, features: np.ndarray | Tensor) -> SampledFeatures:
        """Return the same samples over a copy of the features, for example on another device."""
        return replace(self, features=features)


# (N, L): in memory, on a device, read on demand, or several per row
FeatureTable: TypeAlias = np.ndarray | Tensor | FeatureRows | SampledFeatures


def features_of_epoch(features: FeatureTable, epoch: int) -> tuple[np.ndarray | Tensor | FeatureRows, np.ndarray]:
    """Return the table (M, L) that one epoch reads its features from, and the (N,) places of the rows in it."""
    if isinstance(features, SampledFeatures):
        return features.features, features.at(epoch)
    return features, np.arange(features.shape[0])
