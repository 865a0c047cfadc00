"""LoRA by peft: low-rank layers put into a stock model in place, and merged into its weights before the export."""

from __future__ import annotations

from typing import Any

from teacher_cache import ArmadaError


def add_lora(model: Any, rank: int, targets: tuple[str, ...] | None, head: str) -> None:
    """Freeze the model but for new low-rank layers (alpha = 2 rank) beside every linear layer, or beside those whose
    names end in one of `targets`, and for the task head, the modules whose names begin with `head`."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=list(targets) if targets else "all-linear",
        exclude_modules=rf"^{head}(\..*)?$" if head else None,
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ArmadaError(f"--lora-targets: no such layers in this student: {error}") from None
    for name, parameter in model.named_parameters():
        if head and name.startswith(f"{head}."):
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # peft makes them as the base computes: bf16, if it's in four bits


def merge_lora(model: Any) -> None:
    """Add every low-rank layer to the weights that it stands beside, and leave the stock model."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            parent, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(parent), leaf, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
        model._hf_peft_config_loaded = False
