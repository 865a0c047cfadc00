"""The student under training: a stock model, what it says of a batch, and the added heads while it is taught."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from distill.objective.losses import Outputs
from distill.students.generation import answer_loss
from distill.students.heads import StudentHeads
from distill.students.pooling import ModelInputs, pooled_and_logits


class StudentOutputs(NamedTuple):
    """A batch's outputs, (B, *) each in float32. `answers` has a generative student's summed loss and answer tokens a
    row; the last two are there while the student is taught."""

    logits: Tensor  # (B, C)
    answers: Tensor | None  # (B, 2)
    aux_logits: Tensor | None  # (B, C)
    projection: Tensor | None  # (B, L)

    @property
    def outputs(self) -> Outputs | None:
        """What the losses compare with the aligner's."""
        if self.aux_logits is None or self.projection is None:
            return None
        return Outputs(self.logits, self.aux_logits, self.projection)

    @property
    def head(self) -> Tensor | None:
        """A generative student's mean loss over the batch's answer tokens."""
        return None if self.answers is None else self.answers[:, 0].sum() / self.answers[:, 1].sum()


class DistilledStudent(nn.Module):
    """A classifier; or a language model, whose `first` are the tokens that answers begin with."""

    def __init__(self, model: Any, heads: StudentHeads | None, first: Sequence[int] | None = None) -> None:
        super().__init__()
        self.model = model
        self.heads = heads
        self.first: Tensor | None  # a buffer
        self.register_buffer("first", None if first is None else torch.tensor(first), persistent=False)

    def forward(self, batch: ModelInputs) -> StudentOutputs:
        """The outputs of one batch."""
        if self.first is None:
            (pooled, logits), answers = pooled_and_logits(self.model, batch), None
        else:
            pooled, logits, answers = answer_loss(self.model, batch, self.first)
        if self.heads is None:
            return StudentOutputs(logits, answers, None, None)
        outputs = self.heads(pooled, logits)
        return StudentOutputs(outputs.logits, answers, outputs.aux_logits, outputs.projection)
