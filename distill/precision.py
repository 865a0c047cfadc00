"""Whether this machine computes in bfloat16 as fast as it should: training is in it where it is, else in float32."""

from __future__ import annotations

import torch


def has_bf16() -> bool:
    """Of the GPU, or of the processor where there is none."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
