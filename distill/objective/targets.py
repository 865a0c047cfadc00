"""Targets of an epoch: the outputs of the frozen aligner for every training row.

Epoch e of the student uses the state of the aligner after its epoch e. The logits of all rows are computed in one pass;
projections are computed per batch, because those of all rows may not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distill.dataset.moving import moved
from distill.dataset.sampled_features import FeatureTable, features_of_epoch
from distill.objective.aligner import Aligner, State
from distill.objective.losses import Outputs
from distill.objective.score_scale import AS_IS, Scale
from teacher_cache import ChosenRows, ShardRows

BLOCK = 4096  # rows per block of the pass over all rows


@dataclass(frozen=True)
class TeacherTargets:
    """Everything that a student is distilled from: the features of the pictures, and the trained aligner."""

    features: FeatureTable  # (N, L)
    states: Sequence[State]  # of the aligner, one per epoch
    width: int  # of the aligner's hidden layers
    max_local_bytes: int | None = None  # the memory limit for features in shards, which are read in windows
    relu: bool = False  # the outputs of a regression pass a ReLU, as in the reference
    scale: Scale = AS_IS  # of the labels that the aligner was trained on

    @property
    def classes(self) -> int:
        """C, the number of outputs of the aligner."""
        return len(self.states[0]["head.bias"])


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
