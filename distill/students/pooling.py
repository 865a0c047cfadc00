"""The pooled output s of a student: what enters the last layer of its task head in the stock model's forward pass.

A hook on that layer returns s beside the logits, so the student computes exactly what stock transformers computes with
the exported checkpoint, and no architecture is named here. A head that is applied to every token, as that of decoders,
returns s for every token; the model then picks the token, and s is that of the token which it picks: the last one that
is not padding, the only one that depends on all tokens.

Dropout right before the last layer is left out of s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from distill.students.embedding import SECOND, pooled_and_cosines
from distill.students.files.architectures import no_cache
from distill.students.heads import dropouts, last_layer, task_head
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ModelInputs = dict[str, Tensor]


def pooled_and_logits(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    """Return s (B, H) and the logits (B, C) of the task head, as the forward pass of the model computes them.

    For a batch of two texts per row, which an embedding student reads, the logits (B, 1) are the cosines.
    Raise ArmadaError if the model has no task head, or does not return what the head computes.
    """
    pooled, logits, _ = pooled_logits_and_input(model, tokens)
    return pooled, logits


def pooled_logits_and_input(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Return s and the logits as `pooled_and_logits` does, and the tensor from which both are computed.

    It is s before the model picks a token of each row, (B, H) or (B, T, H), with a zero gradient at the other tokens.
    The logits do not depend on s itself, which is cut out of the model's output behind them.
    """
    if f"{SECOND}input_ids" in tokens:
        pooled, cosines = pooled_and_cosines(model, tokens)
        return pooled, cosines, pooled
    head = last_layer(model)[1]
    with _joined_outputs(model, head) as head_input:
        joined = model(**tokens, **no_cache(type(model).forward)).logits  # (B, C + H)
    layer = task_head(model)[1]
    classes, width = layer.out_features, layer.in_features
    if joined.shape[1:] != (classes + width,):
        raise ArmadaError(
            f"{type(model).__name__} ({model.config.model_type}): expected one row of logits per text, as its "
            f"last layer computes them, {classes} and its input of {width}; found {tuple(joined.shape)}"
        )
    # Contiguous, so that sums over them round as they do without the hook.
    pooled, logits = joined[:, classes:].contiguous(), joined[:, :classes].contiguous()
    return pooled, logits, head_input[0]


def pooled_width(model: PreTrainedModel) -> int:
    """Return H, the width of the pooled output: of a classifier, a language model, or an embedding student."""
    if hasattr(model, "embedding_width"):
        return int(model.embedding_width)
    writer = model.get_output_embeddings()
    return int(writer.in_features) if isinstance(writer, nn.Linear) else task_head(model)[1].in_features


@contextmanager
def _joined_outputs(model: PreTrainedModel, head: nn.Module) -> Iterator[list[Tensor]]:
    """Let the task head return its outputs and, behind them, its inputs before dropout: (..., C + H).

    Yield a list that then has these inputs, (..., H).
    """
    found: list[Tensor] = []
    last: list[tuple[Tensor, Tensor]] = []  # the output and the input of the last dropout

    def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last[:] = [(output, inputs[0])]

    def join(_: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        s = last[0][1] if last and inputs[0] is last[0][0] else inputs[0]
        found[:] = [s]
        return torch.cat([logits, s], -1)

    hooks = [dropout.register_forward_hook(note) for dropout in dropouts(model)]
    hooks.append(head.register_forward_hook(join))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
