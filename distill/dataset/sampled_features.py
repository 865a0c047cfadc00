"""Several pictures a row, of which every epoch shows one: which, is a pure function of (data digest, seed, epoch)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distill.dataset.order import generator_of


@dataclass(frozen=True)
class SampledFeatures:
    """All pictures' features (M, L), an array or a tensor, and the places (N, K) of each row's K among them."""

    features: Any  # (M, L)
    places: np.ndarray  # (N, K) int64
    key: str  # digest of the data
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, L): rows, and not pictures."""
        return len(self.places), self.features.shape[1]

    @property
    def dtype(self) -> Any:
        """The features' own."""
        return self.features.dtype

    def at(self, epoch: int) -> np.ndarray:
        """(N,) the places of the pictures that an epoch shows."""
        rows, pictures = self.places.shape
        drawn = generator_of("armada-draw/1", self.key, self.seed, epoch).integers(pictures, size=rows)
        features_of_epoch: np.ndarray = self.places[np.arange(rows), drawn]
        return features_of_epoch

    def on(self, features: Any) -> SampledFeatures:
        """The same draws out of a copy of the features, which may be elsewhere."""
        return replace(self, features=features)


def features_of_epoch(features: Any, epoch: int) -> tuple[Any, np.ndarray]:
    """What an epoch shows of a view's features (N, L): a table, and each row's place in it, (N,)."""
    if isinstance(features, SampledFeatures):
        return features.features, features.at(epoch)
    return features, np.arange(features.shape[0])
