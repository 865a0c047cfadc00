"""The pooled output s of a student, with one pooling function per family of architectures.

Each function computes the forward pass of the stock classifier in two steps, so the logits equal those of the exported
checkpoint in stock transformers. For an encoder, s is the output of its own pooler or classification head. For a
decoder, s is the state at the last token that is not padding, the only one that depends on all tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ModelInputs = dict[str, Tensor]


def pooled_and_logits(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    """Return s (B, H) and the logits (B, C) of the task head, as the forward pass of the model computes them."""
    return POOLERS[model.config.model_type](model, tokens)


def check_architecture(name: str, model_type: str) -> None:
    """Raise ArmadaError if no pooling function is registered for this architecture. `name` is for the message."""
    if model_type not in POOLERS:
        raise ArmadaError(f"{name}: expected a student of {', '.join(POOLERS)}, found {model_type}")


def last_token(attention_mask: Tensor) -> Tensor:
    """Return the positions (B,) of the last token that is not padding, for a (B, T) mask padded on either side."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (attention_mask * places).argmax(1)


def _bert(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    pooled = model.bert(**tokens).pooler_output
    return pooled, model.classifier(model.dropout(pooled))


def _roberta(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    head = model.classifier
    pooled = torch.tanh(head.dense(head.dropout(model.roberta(**tokens)[0][:, 0])))
    return pooled, head.out_proj(head.dropout(pooled))


def _deberta(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    pooled = model.pooler(model.deberta(**tokens)[0])
    return pooled, model.classifier(model.dropout(pooled))


def _modernbert(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    states = model.model(**tokens)[0]  # (B, T, H)
    if model.config.classifier_pooling == "mean":
        mask = tokens["attention_mask"].unsqueeze(-1)
        first = (states * mask).sum(1) / mask.sum(1)
    else:
        first = states[:, 0]
    pooled = model.head(first)
    return pooled, model.classifier(model.drop(pooled))


def _decoder(model: PreTrainedModel, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    inputs = {name: value for name, value in tokens.items() if name != "token_type_ids"}
    states = model.base_model(**inputs, use_cache=False)[0]  # (B, T, H)
    rows = torch.arange(len(states), device=states.device)
    pooled = states[rows, last_token(tokens["attention_mask"])]
    return pooled, model.score(pooled)


POOLERS: dict[str, Callable[[PreTrainedModel, ModelInputs], tuple[Tensor, Tensor]]] = {
    "bert": _bert,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
    "deberta": _deberta,
    "deberta-v2": _deberta,  # and v3, whose checkpoints are of this type
    "modernbert": _modernbert,
    "opt": _decoder,
    "llama": _decoder,  # and SmolLM2
    "qwen2": _decoder,
    "qwen3": _decoder,
}
DECODERS = tuple(kind for kind, pooler in POOLERS.items() if pooler is _decoder)


def pooled_width(model: PreTrainedModel) -> int:
    """Return H, the width of the pooled output."""
    return int(getattr(model.config, "word_embed_proj_dim", None) or model.config.hidden_size)
