"""Targets of an epoch: the outputs of the frozen aligner for every training row.

Epoch e of the student uses the state of the aligner after its epoch e. The logits of all rows are computed in one pass;
projections are computed per batch, because those of all rows may not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from distill.dataset.moving import moved
from distill.dataset.sampled_features import FeatureTable, features_of_epoch
from distill.objective.aligner import Aligner, State
from distill.objective.losses import Outputs, student_loss
from distill.objective.score_scale import AS_IS, Scale
from distill.settings import TrainSettings
from teacher_cache import ChosenRows, ShardRows

BLOCK = 4096  # rows per block of the pass over all rows


class StudentPoints(Protocol):
    """What the losses read of a student's outputs for one batch."""

    @property
    def logits(self) -> Tensor:
        """(B, C), from the task head."""

    @property
    def aux_logits(self) -> Tensor | None:
        """(B, C), from the auxiliary head, if there is one."""

    @property
    def projection(self) -> Any:
        """(B, D), P s."""


class TargetsOfEpoch(Protocol):
    """What a student is taught in one epoch."""

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
        """Return the unweighted terms of the loss of a batch, (3,): task, output alignment, manifold; or one term (1,)
        of a student without labels. Only the student gets gradients.

        Args:
            settings: the weights and temperatures.
            student: the outputs of the student.
            labels: (B,) class ids, or floats if C = 1, or (B, C) 0 or 1 for a multi-label task.
            rows: (B,) int64, the numbers of the rows in the view.
            features: (B, L), their features.
            head: the loss of the task head.
            class_weights: (C,), see `losses.head_loss`; for auxiliary heads.
        """


class Targets(Protocol):
    """Everything that a student is taught by, besides its labels."""

    @property
    def features(self) -> FeatureTable:
        """(N, L)."""

    @property
    def max_local_bytes(self) -> int | None:
        """The memory limit for features in shards, which are read in windows."""

    @property
    def projection_width(self) -> int:
        """D, the width of the student's projection."""

    @property
    def classes(self) -> int:
        """C, the number of outputs of the auxiliary head."""

    @property
    def has_aux_heads(self) -> bool:
        """True if the student has an auxiliary head on its projection."""

    @property
    def relu(self) -> bool:
        """True if the outputs of a regression pass a ReLU, as in the reference."""

    @property
    def aligner_parameters(self) -> int:
        """The number of parameters of the aligner."""

    def of_epoch(self, epoch: int, device: torch.device) -> TargetsOfEpoch:
        """Return the targets of an epoch on a device."""


@dataclass(frozen=True)
class TeacherTargets:
    """Everything that a student is distilled from: the features of the pictures, and the trained aligner."""

    features: FeatureTable  # (N, L)
    states: Sequence[State]  # of the aligner, one per epoch
    width: int  # of the aligner's hidden layers
    max_local_bytes: int | None = None  # the memory limit for features in shards, which are read in windows
    relu: bool = False  # the outputs of a regression pass a ReLU, as in the reference
    scale: Scale = AS_IS  # of the labels that the aligner was trained on

    has_aux_heads = True

    @property
    def classes(self) -> int:
        """C, the number of outputs of the aligner."""
        return len(self.states[0]["head.bias"])

    @property
    def projection_width(self) -> int:
        """L: the student is projected into the manifold of the features."""
        return self.features.shape[1]

    @property
    def aligner_parameters(self) -> int:
        """The number of parameters of the aligner."""
        return sum(tensor.numel() for tensor in self.states[0].values())

    def of_epoch(self, epoch: int, device: torch.device) -> EpochTargets:
        """Return the targets of an epoch on a device."""
        return EpochTargets(self, epoch, device)


class EpochTargets:
    """The targets of one epoch, from the frozen aligner in evaluation mode.

    `center` is the (L,) projection of the mean of the features.
    """

    @torch.no_grad()
    def __init__(self, teacher_targets: TeacherTargets, epoch: int, device: torch.device) -> None:
        rows, width = teacher_targets.features.shape
        with torch.device("meta"):  # no random initial weights: a resumed run must not advance a generator
            self._aligner = Aligner(
                width, teacher_targets.classes, teacher_targets.width, relu=teacher_targets.relu
            ).eval()
        self._aligner.load_state_dict(teacher_targets.states[epoch], assign=True)
        self._aligner.to(device)
        self._logits = torch.empty(rows, teacher_targets.classes, device=device)  # (N, C)
        self._aux_logits = torch.empty_like(self._logits)  # (N, C)
        total = torch.zeros(width, device=device)
        for index, part in feature_blocks(teacher_targets.features, epoch):
            features = moved(part, device).float()
            place = moved(index, device)
            outputs = self._aligner(features)
            self._logits[place], self._aux_logits[place] = outputs.logits, outputs.aux_logits
            total += features.sum(0)
        self.center = self._aligner.project(total[None] / rows)[0]

    @torch.no_grad()
    def outputs(self, rows: Tensor, features: Tensor) -> Outputs:
        """Return the outputs of the aligner for rows (B,) and their features (B, L), on the device of the targets."""
        return Outputs(self._logits[rows], self._aux_logits[rows], self._aligner.project(features.float()))

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
        """Return the unweighted terms (3,) of the reference: task, output alignment, manifold loss."""
        assert student.aux_logits is not None  # has_aux_heads
        outputs = Outputs(student.logits, student.aux_logits, student.projection)
        found = student_loss(
            self.outputs(rows, features),
            outputs,
            labels,
            **settings.loss,
            class_weights=class_weights,
            center=self.center,
            head=head,
        )
        return torch.stack(found[1:])


def feature_blocks(features: FeatureTable, epoch: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield every row once, in blocks of (row numbers (B,), features (B, L) of this epoch).

    Features in shards are yielded shard by shard, so that each shard is read once.
    """
    table, places = features_of_epoch(features, epoch)
    if isinstance(table, ChosenRows) and isinstance(table.source, ShardRows):
        groups = table.source.shards_of(table.places)
        parts = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    else:
        parts = np.split(np.arange(len(places)), range(BLOCK, len(places), BLOCK))
    for part in parts:
        own = places[part]
        if isinstance(table, Tensor):
            yield part, table[torch.from_numpy(own).to(table.device)]
        else:
            taken = table[own] if isinstance(table, np.ndarray) else table.take(own)
            yield part, torch.from_numpy(taken)
