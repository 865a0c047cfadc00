"""Where a student's pooled output s stands, a family of architectures at a time.

Each function runs the stock classifier's own path in two parts, so that the logits are the ones that the exported
checkpoint gives in stock transformers. An encoder's s is what its own pooler or classification head makes of the text;
a decoder's is the state at the last real token, the only one that has seen all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from teacher_cache import ArmadaError

ModelInputs = dict[str, Tensor]


def pooled_and_logits(model: Any, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    """s (B, H) and the task head's logits (B, C), as the model's own forward computes them."""
    return POOLERS[model.config.model_type](model, tokens)


def check_kind(name: str, model_type: str) -> None:
    """Raise ArmadaError unless we know where a student of this architecture has its s."""
    if model_type not in POOLERS:
        raise ArmadaError(f"{name}: expected a student of {', '.join(POOLERS)}, found {model_type}")


def last_token(attention_mask: Tensor) -> Tensor:
    """(B,) positions of the last real token of (B, T) rows, padded on either side."""
    places = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (attention_mask * places).argmax(1)


def _bert(model: Any, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    pooled = model.bert(**tokens).pooler_output
    return pooled, model.classifier(model.dropout(pooled))


def _roberta(model: Any, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    head = model.classifier
    pooled = torch.tanh(head.dense(head.dropout(model.roberta(**tokens)[0][:, 0])))
    return pooled, head.out_proj(head.dropout(pooled))


def _deberta(model: Any, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    pooled = model.pooler(model.deberta(**tokens)[0])
    return pooled, model.classifier(model.dropout(pooled))


def _modernbert(model: Any, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    states = model.model(**tokens)[0]  # (B, T, H)
    if model.config.classifier_pooling == "mean":
        mask = tokens["attention_mask"].unsqueeze(-1)
        first = (states * mask).sum(1) / mask.sum(1)
    else:
        first = states[:, 0]
    pooled = model.head(first)
    return pooled, model.classifier(model.drop(pooled))


def _decoder(model: Any, tokens: ModelInputs) -> tuple[Tensor, Tensor]:
    inputs = {name: value for name, value in tokens.items() if name != "token_type_ids"}
    states = model.base_model(**inputs, use_cache=False)[0]  # (B, T, H)
    rows = torch.arange(len(states), device=states.device)
    pooled = states[rows, last_token(tokens["attention_mask"])]
    return pooled, model.score(pooled)


POOLERS: dict[str, Callable[[Any, ModelInputs], tuple[Tensor, Tensor]]] = {
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


def pooled_width(model: Any) -> int:
    """H, the width of the student's pooled output."""
    return int(getattr(model.config, "word_embed_proj_dim", None) or model.config.hidden_size)
