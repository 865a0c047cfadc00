"""What a student learns without labels and without pictures: the hidden words of its texts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.objective.targets import StudentPoints
from distill.settings import TrainSettings


@dataclass(frozen=True)
class MaskedTargets:
    """The texts' words, in place of a teacher's features; see `students.masked_words`."""

    rows: int
    words: tuple[int, ...]  # token ids
    mask: int  # a token id

    max_local_bytes = None
    projection_width = 2
    classes = 1
    has_aux_heads = False
    relu = False
    aligner_parameters = 0

    @property
    def features(self) -> np.ndarray:
        """(N, 0): there are none."""
        return np.empty((self.rows, 0), np.float16)

    def of_epoch(self, epoch: int, device: torch.device) -> MaskedTargets:
        """Return the targets, which are the same in every epoch."""
        return self

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
        """Return the mean loss of a batch's hidden words as the only term (1,). See TargetsOfEpoch.terms."""
        total: Tensor = student.projection.sum(0)  # of the losses, and of the words
        return total[:1] / total[1:].clamp(min=1)
