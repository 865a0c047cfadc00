"""The student during training: a stock model, the heads that distillation adds, and their outputs for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from distill.students.generation import answer_loss
from distill.students.heads import ProjectionHead, StudentHeads
from distill.students.masked_words import MaskedWords
from distill.students.pooling import ModelInputs, pooled_logits_and_input

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class StudentOutputs(NamedTuple):
    """The outputs for one batch, in float32."""

    logits: Tensor  # (B, C)
    answers: Tensor | None  # (B, 2): summed loss and number of answer tokens per row; only for a generative student
    aux_logits: Tensor | None  # (B, C); only with an auxiliary head
    projection: Tensor | None  # (B, D); only with a teacher; of masked words (B, 2), their summed loss and their number

    @property
    def head(self) -> Tensor | None:
        """The mean loss over the answer tokens of the batch; None for a classifier."""
        return None if self.answers is None else self.answers[:, 0].sum() / self.answers[:, 1].sum()

    def head_of(self, tokens: float) -> Tensor | None:
        """The loss over the answers divided by a number of tokens: of a batch, of which these rows may be a part."""
        return None if self.answers is None else self.answers[:, 0].sum() / tokens


class DistilledStudent(nn.Module):
    """A classifier, or a causal language model with the tokens `first` (C,) that answers start with.

    With a ProjectionHead, `head_input` is what entered the last layer of the task head in the last forward pass,
    (B, ..., H): logits and projection both depend on it, so their gradients can be compared there.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        heads: StudentHeads | ProjectionHead | MaskedWords | None,
        first: Sequence[int] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self._label_smoothing = label_smoothing  # of the answer's tokens
        self.model = model
        self.heads = heads
        self.head_input: Tensor | None = None
        self.first: Tensor | None  # a buffer
        self.register_buffer("first", None if first is None else torch.tensor(first), persistent=False)

    def forward(self, batch: ModelInputs) -> StudentOutputs:
        """Return the outputs for one batch."""
        if isinstance(self.heads, MaskedWords):
            hidden = self.heads(self.model, batch)
            return StudentOutputs(torch.zeros_like(hidden), None, None, hidden)
        if self.first is None:
            (pooled, logits, head_input), answers = pooled_logits_and_input(self.model, batch), None
        else:
            pooled, logits, answers = answer_loss(self.model, batch, self.first, self._label_smoothing)
            head_input = pooled
        if self.heads is None:
            return StudentOutputs(logits, answers, None, None)
        if isinstance(self.heads, ProjectionHead):
            self.head_input = head_input
            return StudentOutputs(logits, answers, None, self.heads(pooled))
        outputs = self.heads(pooled, logits)
        return StudentOutputs(outputs.logits, answers, outputs.aux_logits, outputs.projection)
