"""Pre-training without labels: a student learns from its texts alone what the features of their pictures are.

Its projection P s is fitted to the whitened features by least squares, which needs neither labels nor an aligner.
Studies of before 2026-12 minimise the relational manifold loss on the raw features instead; it is kept for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from distill.dataset.sampled_features import FeatureTable, SampledFeatures
from distill.dataset.tokens import Tokens
from distill.objective.losses import manifold_loss
from distill.objective.masked_targets import MaskedTargets
from distill.objective.targets import StudentPoints, feature_blocks
from distill.objective.whitening import Whitening
from distill.settings import TrainSettings
from distill.students.heads import task_head
from distill.training.trainer import CheckpointConfig, Epoch, train_student

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PretrainTargets:
    """The features that a student is fitted to: whitened; or raw, by their relations, if `whitening` is None."""

    features: FeatureTable  # (N, L)
    whitening: Whitening | None
    max_local_bytes: int | None = None  # the memory limit for features in shards, which are read in windows

    classes = 1
    has_aux_heads = False
    relu = False
    aligner_parameters = 0

    @property
    def projection_width(self) -> int:
        """D, the width of what P s is fitted to."""
        return self.features.shape[1] if self.whitening is None else self.whitening.basis.shape[1]

    def of_epoch(self, epoch: int, device: torch.device) -> PretrainEpoch:
        """Return the targets, which are the same in every epoch, on a device."""
        return PretrainEpoch(self, device)


class PretrainEpoch:
    """The targets on a device."""

    @torch.no_grad()
    def __init__(self, targets: PretrainTargets, device: torch.device) -> None:
        self._whitening = targets.whitening.to(device) if targets.whitening else None
        self._center = None
        if self._whitening is None:
            source = targets.features
            table = source.features if isinstance(source, SampledFeatures) else source  # all pictures
            totals = [part.to(device).float().sum(0) for _, part in feature_blocks(table, 0)]
            self._center = torch.stack(totals).sum(0) / table.shape[0]

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
        """Return the loss as the only term (1,): the mean squared error, which is 1 for a student that knows nothing;
        or the relational loss. See TargetsOfEpoch.terms."""
        if self._whitening is None:
            return manifold_loss("relational", features.float(), student.projection, self._center)[None]
        return F.mse_loss(student.projection, self._whitening(features))[None]


def pretrain_student(
    model: PreTrainedModel,
    tokens: Tokens,
    targets: PretrainTargets | MaskedTargets,
    settings: TrainSettings,
    *,
    data_digest: str,
    checkpoint_config: CheckpointConfig,
    accelerator: Accelerator,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Epoch]:
    """Train `model` in place by the loop of `train_student`, and return its epochs. The task head is not changed.

    Arguments and errors as of `train_student`; the weights of the losses are not used.
    """
    _, head = task_head(model)
    head.requires_grad_(False)
    labels = [0] * len(tokens)
    found = train_student(
        model,
        tokens,
        labels,
        settings,
        data_digest=data_digest,
        teacher_targets=targets,
        checkpoint_config=checkpoint_config,
        accelerator=accelerator,
        on_step=on_step,
    )
    head.requires_grad_(True)
    return found
