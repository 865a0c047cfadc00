"""The lesson of an epoch: what the frozen aligner says of every training row.

The aligner's state after its epoch e teaches the student's epoch e. Its logits come from one batched pass; its
projections by the batch, since all of them may not fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill.aligner import Aligner, State
from distill.losses import Outputs


@dataclass(frozen=True)
class Teaching:
    """What the pictures give: features (N, L) on the training device, the aligner's states, and its hidden width."""

    features: Tensor
    states: Sequence[State]
    width: int


class Lesson:
    """One epoch of the frozen aligner, in evaluation mode. `center` is the (L,) projection of the features' mean."""

    @torch.no_grad()
    def __init__(self, teaching: Teaching, epoch: int) -> None:
        state = teaching.states[epoch]
        labels = len(state["head.bias"])
        self._features = teaching.features
        with torch.device("meta"):  # weights are not drawn: no generator moves, wherever a run is resumed
            self._aligner = Aligner(teaching.features.shape[1], labels, teaching.width).eval()
        self._aligner.load_state_dict(state, assign=True)
        self._aligner.to(teaching.features.device)
        parts = [self._aligner(part.float()) for part in torch.split(teaching.features, 4096)]
        self._logits = torch.cat([part.logits for part in parts])  # (N, C)
        self._aux_logits = torch.cat([part.aux_logits for part in parts])  # (N, C)
        self.center = self._aligner.project(teaching.features.float().mean(0, keepdim=True))[0]

    @torch.no_grad()
    def outputs(self, rows: Tensor) -> Outputs:
        """The aligner's outputs for these rows, (B,) indices on the features' device."""
        projection = self._aligner.project(self._features[rows].float())
        return Outputs(self._logits[rows], self._aux_logits[rows], projection)
