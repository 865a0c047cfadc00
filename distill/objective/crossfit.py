"""The objective `crossfit`: what a student learns from cross-fitted aligners and from a contrast with all pictures.

Its terms are the task loss, T^2 KL of the outputs against the logits of an aligner that has not seen the row's label,
and a contrast of the projection P s with the whitened features of the whole cache view. It has no auxiliary heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distill.dataset.moving import moved
from distill.dataset.sampled_features import FeatureTable, features_of_epoch
from distill.objective.contrast import Bank, bank_of, contrast_loss
from distill.objective.cross_fitting import Inputs, as_float
from distill.objective.losses import kl_loss, output_distance
from distill.objective.multi_label import label_set_alignment, label_set_distance
from distill.objective.targets import StudentPoints
from distill.objective.whitening import Whitening
from distill.settings import TrainSettings

OUTPUT_LOSSES = {"kl": kl_loss, "mse": output_distance}
LABEL_SET_LOSSES = {"kl": label_set_alignment, "mse": label_set_distance}


@dataclass(frozen=True)
class CrossfitTargets:
    """Everything that a student is taught by with the objective `crossfit`. M pictures are of N rows."""

    features: FeatureTable  # (N, L)
    logits: Tensor  # (M, C), for each picture those of an aligner that has left its row out
    whitening: Whitening | None  # None: the features are contrasted as they are
    pictures: np.ndarray  # (M,) int64; equal numbers are the same picture
    key: str  # the digest of the data, which decides the part of a large bank that an epoch has
    seed: int = 0
    max_local_bytes: int | None = None  # the memory limit for features in shards, which are read in windows
    aligner_parameters: int = 0
    out_of_fold: Mapping[str, Any] = field(default_factory=dict)  # how well the features alone predict the labels

    relu = False
    has_aux_heads = False

    @property
    def classes(self) -> int:
        """C, the number of outputs of the aligner."""
        return self.logits.shape[1]

    @property
    def projection_width(self) -> int:
        """D, the width of what the projection is contrasted with."""
        return self.features.shape[1] if self.whitening is None else self.whitening.basis.shape[1]

    def of_epoch(self, epoch: int, device: torch.device) -> CrossfitEpoch:
        """Return the targets of an epoch on a device."""
        return CrossfitEpoch(self, epoch, device)


class CrossfitEpoch:
    """The targets of one epoch: the logits and the picture of every row, and the bank."""

    def __init__(self, targets: CrossfitTargets, epoch: int, device: torch.device) -> None:
        _, places = features_of_epoch(targets.features, epoch)
        self._logits = moved(targets.logits[torch.from_numpy(places)], device)  # (N, C)
        self._pictures = moved(targets.pictures[places], device)  # (N,)
        self._points: Inputs = targets.whitening.to(device) if targets.whitening else as_float
        self._make_bank = partial(
            bank_of, targets.features, self._points, targets.pictures, device, targets.key, targets.seed, epoch
        )
        self._bank: Bank | None = None

    def bank(self) -> Bank:
        """Return the bank of the epoch, made at the first call."""
        if self._bank is None:
            self._bank = self._make_bank()
        return self._bank

    def terms(
        self,
        settings: TrainSettings,
        student: StudentPoints,
        labels: Tensor,
        rows: Tensor,
        features: Tensor,
        head: Tensor,
        class_weights: Tensor | None = None,
    ) -> Tensor:
        """Return the unweighted terms (3,): task, output alignment, contrast. See EpochTargets.terms."""
        outputs, points = student.logits.new_zeros(()), student.logits.new_zeros(())
        if settings.alpha:
            distance = (OUTPUT_LOSSES if labels.ndim == 1 else LABEL_SET_LOSSES)[settings.output_loss]
            outputs = distance(self._logits[rows], student.logits, settings.temperature)
        if settings.contrast:
            points = contrast_loss(student.projection, self._points(features), self._pictures[rows], self.bank())
        return torch.stack([head, outputs, points])
