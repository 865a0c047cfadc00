"""LoRA by peft: low-rank layers are added to a stock model in place, and merged into its weights before the export, or
written by themselves as an adapter that stock peft loads on the untrained student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from distill.students.heads import head_modules
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER = "default"  # peft's name for the only adapter


def add_lora(
    model: nn.Module,
    rank: int,
    targets: tuple[str, ...] | None,
    heads: tuple[str, ...],
    alpha: float | None = None,
    dropout: float = 0.0,
) -> None:
    """Freeze the model in place, and add low-rank layers that train together with the task head.

    Args:
        model: the stock model.
        rank: the rank of the added layers.
        targets: add layers to the linear layers whose names end in one of these; None means all linear layers.
        heads: the names of the modules of the task head, which stay trainable and get no low-rank layers.
        alpha: what they add is multiplied by alpha / rank; by default alpha is twice the rank.
        dropout: of their inputs.

    Raise ArmadaError if one of `targets` matches no layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if targets is not None:
        _check_targets(model, targets, heads)
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
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


def check_adapter(name: str, model: PreTrainedModel) -> None:
    """Raise ArmadaError if an adapter would not give this student: weights that its files lack, and that do not train,
    are random, and other ones wherever the student is loaded."""
    heads = tuple(f"{head}." for head in _trained_heads(model))
    random = [weight for weight in model.loaded_weights.new if not weight.startswith(heads)]
    if random:
        raise ArmadaError(
            f"--lora-export adapter: {name}: expected a student whose files have all weights except the task head's, "
            f"found none for {random[0]}; leave out --lora-export, which exports a whole checkpoint"
        )


def _trained_heads(model: PreTrainedModel) -> tuple[str, ...]:
    """Return the names of the modules that train as a whole beside low-rank layers."""
    whole = [name for name, value in model.named_parameters() if value.requires_grad and ".lora_" not in name]
    if not whole:  # a generative student has no head of its own
        return ()
    return tuple(head for head in head_modules(model) if any(name.startswith(f"{head}.") for name in whole))


def save_adapter(model: PreTrainedModel, folder: Path, base: str, revision: str | None, task_type: str) -> None:
    """Write the low-rank layers and the task head, which `PeftModel.from_pretrained(base model, folder)` adds again.

    Args:
        model: the trained model, with its low-rank layers.
        folder: where to write.
        base: the folder or hub id of the untrained student.
        revision: its commit, tag or branch on the hub.
        task_type: SEQ_CLS or CAUSAL_LM, as in peft.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import BaseTunerLayer
    from safetensors.torch import save_file

    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, BaseTunerLayer)}
    one = next(iter(layers.values()))
    dropout = one.lora_dropout[ADAPTER]
    config = LoraConfig(
        task_type=task_type,
        r=one.r[ADAPTER],
        lora_alpha=one.lora_alpha[ADAPTER],
        lora_dropout=getattr(dropout, "p", 0.0),
        target_modules=sorted(layers),
        modules_to_save=list(_trained_heads(model)) or None,
        base_model_name_or_path=str(Path(base).resolve()) if Path(base).exists() else base,
        revision=revision,
        inference_mode=True,
    )
    config.save_pretrained(folder)
    state = {f"base_model.model.{name.replace(f'.{ADAPTER}.', '.')}": value for name, value in trained.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    model.config.save_pretrained(folder)  # the names of the classes
