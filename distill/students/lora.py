"""LoRA by peft: low-rank layers are added to a stock model in place, and merged into its weights before the export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def add_lora(model: nn.Module, rank: int, targets: tuple[str, ...] | None, heads: tuple[str, ...]) -> None:
    """Freeze the model in place, and add low-rank layers (alpha = 2 * rank) that train together with the task head.

    Args:
        model: the stock model.
        rank: the rank of the added layers.
        targets: add layers to the linear layers whose names end in one of these; None means all linear layers.
        heads: the names of the modules of the task head, which stay trainable and get no low-rank layers.

    Raise ArmadaError if one of `targets` matches no layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if targets is not None:
        _check_targets(model, targets, heads)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=list(targets) if targets else "all-linear",
        exclude_modules=rf"^({'|'.join(heads)})(\..*)?$" if heads else None,
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise ArmadaError(f"--lora-targets: no such layers in this student: {error}") from None
    for name, parameter in model.named_parameters():
        if name.startswith(tuple(f"{head}." for head in heads)):
            parameter.requires_grad_(True)
        if parameter.requires_grad:
            # peft creates its layers in the data type in which the base computes, which is bf16 for four bits.
            parameter.data = parameter.data.float()


def _check_targets(model: nn.Module, targets: tuple[str, ...], heads: tuple[str, ...]) -> None:
    from transformers.pytorch_utils import Conv1D  # the linear layer of GPT-2

    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and not f"{name}.".startswith(tuple(f"{head}." for head in heads))
    ]
    lacking = [one for one in targets if not any(f".{name}".endswith(f".{one}") for name in linear)]
    if lacking or not targets:
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise ArmadaError(f"--lora-targets: expected some of {', '.join(known)}, found {', '.join(lacking) or 'none'}")


def merge_lora(model: PreTrainedModel) -> None:
    """Merge every low-rank layer into the weights of its linear layer, which restores the stock model in place."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
        model._hf_peft_config_loaded = False
