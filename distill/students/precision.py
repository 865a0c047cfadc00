"""QLoRA (arXiv 2305.14314): the frozen base in four bits (NF4, its scales quantised too) while low-rank layers train.

What is exported has nothing of it: the low-rank layers and the task head are put on the base's own weights, loaded
anew, and not on dequantised ones, whose rounding it would keep for ever. The trained layers have made up for some of
that rounding, though, so the exported student is not exactly the trained one; it is the exported one that is evaluated.
An epoch is picked (`--select`) by the trained one.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from teacher_cache import MissingPackageError

WHOLE = ["classifier", "score", "lm_head"]  # task heads, which train, and the vocabulary's, as bitsandbytes advises


def four_bit_config() -> Any:
    """What `from_pretrained` loads a base in four bits by. (peft's prepare_model_for_kbit_training has nothing left to
    do: the rest is loaded in float32, and add_lora freezes it.) Raises MissingPackageError."""
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise MissingPackageError("bitsandbytes", "quant", "--load-4bit")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if has_bf16() else torch.float32,
        llm_int8_skip_modules=WHOLE,  # holds for four bits too
    )


def keep_trainable(model: Any) -> None:
    """See that an evaluation between epochs leaves the weights as training needs them: on some processors bitsandbytes
    packs them anew for inference, and no gradient goes through what is packed."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def on_own_base(trained: dict[str, Tensor], load: Callable[[], Any]) -> Any:
    """A student that `load` gives, low-rank layers included and in full precision, with trained weights."""
    model = load()
    expected = {name for name, value in model.named_parameters() if value.requires_grad}
    assert expected == trained.keys()  # one way of loading makes both
    model.load_state_dict(trained, strict=False)
    return model


# --- merged: distill.students.loading.precision
# Whether this machine computes in bfloat16 as fast as it should: training is in it where it is, else in float32.
def has_bf16() -> bool:
    """Of the GPU, or of the processor where there is none."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
