"""Number formats: QLoRA (the frozen base in four bits), and whether this machine has bfloat16.

QLoRA (arXiv 2305.14314) keeps the frozen base in NF4, with quantised scales, while low-rank layers train. The export
contains no quantised weights: the low-rank layers and the task head are put on the original weights of the base, which
are loaded again, because dequantised weights would keep their rounding. The trained layers compensate for some of that
rounding, so the exported student differs slightly from the trained one. Reported metrics are those of the exported
student; the best epoch (`--select`) is chosen by those of the trained one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from teacher_cache import MissingPackageError

if TYPE_CHECKING:
    from transformers import BitsAndBytesConfig, PreTrainedModel

# Not quantised: task heads, because they train, and the language-model head, as bitsandbytes advises.
FULL_PRECISION = ["classifier", "score", "lm_head"]


def four_bit_config(heads: Sequence[str] = ()) -> BitsAndBytesConfig:
    """Return the quantisation config with which `from_pretrained` loads a base in four bits, without its task head.

    `heads` are the names of the head's modules.

    peft's prepare_model_for_kbit_training is not needed: the other weights are loaded in float32, and `add_lora`
    freezes them. Raise MissingPackageError if bitsandbytes is not installed.
    """
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise MissingPackageError("bitsandbytes", "quant", "--load-4bit")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_compute_type(),
        llm_int8_skip_modules=[*{*FULL_PRECISION, *heads}],  # despite its name, it applies to four bits too
    )


def _compute_type() -> torch.dtype:
    if has_bf16():
        return torch.bfloat16
    return torch.float16 if torch.cuda.is_available() else torch.float32


def keep_trainable(model: nn.Module) -> None:
    """Prevent an evaluation between epochs from making the model untrainable.

    On some processors, bitsandbytes repacks four-bit weights for inference, and packed weights pass no gradients.
    """
    module: Any  # bitsandbytes' Linear4bit has the attribute
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def on_own_base(trained: dict[str, Tensor], load: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    """Return the student that `load` returns in full precision, low-rank layers included, with the trained weights."""
    model = load()
    expected = {name for name, value in model.named_parameters() if value.requires_grad}
    assert expected == trained.keys()  # both models were loaded by the same function
    model.load_state_dict(trained, strict=False)
    return model


def has_bf16() -> bool:
    """Return True if the GPU, or without one the processor, has instructions for bfloat16.

    On a processor this says nothing of their speed; see machine_speed.py. A GPU before Ampere emulates them in float32,
    which is slower than float16, so it has none.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
