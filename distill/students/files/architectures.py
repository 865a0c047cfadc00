"""What transformers itself knows of an architecture: whether it has a classifier, whether it writes, how far it reads.

No architecture is named here, so one that transformers adds later needs no change.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from teacher_cache import ArmadaError, quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

NO_LIMIT = 1 << 30  # tokens


def check_architecture(name: str, config: PretrainedConfig, auto: Any) -> None:
    """Raise ArmadaError if an Auto class of transformers has no model for this configuration.

    `name` is the student's name. A student whose own code is trusted has a model if its `auto_map` says so.
    """
    if type(config) in auto._model_mapping or auto.__name__ in (getattr(config, "auto_map", None) or {}):
        return
    needs = {
        "AutoModelForSequenceClassification": "a student with a task head, that is, with a class for sequence "
        "classification in transformers",
        "AutoModelForCausalLM": "a decoder for a generation task, that is, a causal language model of transformers",
    }.get(auto.__name__, "an encoder or a decoder of texts in transformers")
    raise ArmadaError(f"{name}: expected {needs} ({auto.__name__}), found the architecture {config.model_type}")


def check_decoder(name: str, config: PretrainedConfig) -> None:
    """Raise ArmadaError if the architecture reads in both directions, so that it can't write an answer.

    Encoders have classes for causal language models in transformers too; what tells them is that they fill masks.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    check_architecture(name, config, AutoModelForCausalLM)
    if type(config) in AutoModelForMaskedLM._model_mapping or config.is_encoder_decoder:
        raise ArmadaError(
            f"{name}: expected a decoder for a generation task (OPT, LLaMA, Qwen, Mistral, ...), found "
            f"{config.model_type}, which is an encoder"
        )


def skeleton(config: PretrainedConfig, auto: Any, trust_remote_code: bool = False) -> PreTrainedModel:
    """Return a model without weights, to look at its modules."""
    with quiet_transformers(), torch.device("meta"):
        return auto.from_config(config, trust_remote_code=trust_remote_code)


@cache
def no_cache(forward: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments with which a decoder's forward pass does not store keys and values, which nobody reads."""
    return {"use_cache": False} if "use_cache" in inspect.signature(forward).parameters else {}


def positions_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, at_most: int | None = None) -> int:
    """Return the number of tokens that a student can read, or `at_most` if that is less.

    Architectures with relative positions have no limit of their own. Where the positions are an embedding with a
    padding row, as in RoBERTa, they start behind that row.
    """
    found = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    limit = found if found and found > 0 else NO_LIMIT
    for name, module in model.named_modules():
        is_positions = isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]
        if is_positions and module.padding_idx is not None:
            limit = min(limit, module.num_embeddings - module.padding_idx - 1)
    return int(min(limit if at_most is None else at_most, tokenizer.model_max_length, limit))
