"""Gradient checkpointing: the activations of a layer are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def checkpoint_gradients(name: str, model: PreTrainedModel) -> None:
    """Keep only the inputs of each layer of the model while it trains. Random numbers are restored before a layer is
    computed again, so gradients stay the same. Raise ArmadaError if the architecture has no gradient checkpointing."""
    if not model.supports_gradient_checkpointing:
        raise ArmadaError(
            f"--gradient-checkpointing: {name}: not available for {model.config.model_type}; use --accumulate N, which "
            "also saves memory"
        )
    # transformers renames it.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
