"""Copies from main memory to the device: through pinned memory, so that the processor does not wait for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def moved(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return an array or a tensor of main memory as a tensor on the device.

    A copy to a GPU is queued: kernels that are started later see it. torch keeps the pinned memory until it has ended.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
