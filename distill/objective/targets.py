"""The lesson of an epoch: what the frozen aligner says of every training row.

The aligner's state after its epoch e teaches the student's epoch e. Its logits come from one batched pass; its
projections by the batch, since all of them may not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from distill.dataset.sampled_features import SampledFeatures, features_of_epoch
from distill.objective.aligner import Aligner, State
from distill.objective.losses import Outputs
from teacher_cache import ChosenRows, FeatureRows, ShardRows

Table: TypeAlias = (
    np.ndarray | Tensor | FeatureRows | SampledFeatures
)  # (N, L) in memory, on a device, or taken when asked for
BLOCK = 4096  # rows of a pass


@dataclass(frozen=True)
class TeacherTargets:
    """What the pictures give: features (N, L), the aligner's states, and its hidden width. `max_local_bytes` bounds the
    windows that features out of shards are read in."""

    features: Table
    states: Sequence[State]
    width: int
    max_local_bytes: int | None = None

    @property
    def classes(self) -> int:
        """C, the aligner's outputs."""
        return len(self.states[0]["head.bias"])


class EpochTargets:
    """One epoch of the frozen aligner, in evaluation mode. `center` is the (L,) projection of the features' mean."""

    @torch.no_grad()
    def __init__(self, teacher_targets: TeacherTargets, epoch: int, device: torch.device) -> None:
        rows, width = teacher_targets.features.shape
        with torch.device("meta"):  # weights are not drawn: no generator moves, wherever a run is resumed
            self._aligner = Aligner(width, teacher_targets.classes, teacher_targets.width).eval()
        self._aligner.load_state_dict(teacher_targets.states[epoch], assign=True)
        self._aligner.to(device)
        self._logits = torch.empty(rows, teacher_targets.classes, device=device)  # (N, C)
        self._aux_logits = torch.empty_like(self._logits)  # (N, C)
        total = torch.zeros(width, device=device)
        for index, part in feature_blocks(teacher_targets.features, epoch):
            features = part.to(device).float()
            place = torch.from_numpy(index).to(device)
            outputs = self._aligner(features)
            self._logits[place], self._aux_logits[place] = outputs.logits, outputs.aux_logits
            total += features.sum(0)
        self.center = self._aligner.project(total[None] / rows)[0]

    @torch.no_grad()
    def outputs(self, rows: Tensor, features: Tensor) -> Outputs:
        """The aligner's outputs for rows (B,) and their features (B, L), on the lesson's device."""
        return Outputs(self._logits[rows], self._aux_logits[rows], self._aligner.project(features.float()))


def feature_blocks(features: Table, epoch: int) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Every row once, as (row numbers, the features that the epoch shows): block by block, or shard by shard, so that
    each is read once."""
    table, places = features_of_epoch(features, epoch)
    if isinstance(table, ChosenRows) and isinstance(table.source, ShardRows):
        groups = table.source.shards_of(table.places)
        parts = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    else:
        parts = np.split(np.arange(len(places)), range(BLOCK, len(places), BLOCK))
    for part in parts:
        wanted = places[part]
        if isinstance(table, Tensor):
            yield part, table[torch.from_numpy(wanted).to(table.device)]
        else:
            taken = table[wanted] if isinstance(table, np.ndarray) else table.take(wanted)
            yield part, torch.from_numpy(taken)
