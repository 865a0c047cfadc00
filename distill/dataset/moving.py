"""Copies from main memory to the device, batch by batch through pinned memory so that the processor does not wait, or
all features at once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from distill.dataset.sampled_features import FeatureTable, SampledFeatures


def moved(values: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Return an array or a tensor of main memory as a tensor on the device.

    A copy to a GPU is queued: kernels that are started later see it. torch keeps the pinned memory until it has ended.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def on_device(
    features: FeatureTable, device: torch.device | str, share_of_free: float = 0.5
) -> Tensor | SampledFeatures | None:
    """Copy all features (N, L) to a CUDA device.

    Return None if they need more than `share_of_free` of its free memory, or if it is not a CUDA device.
    """
    device = torch.device(device)
    if isinstance(features, SampledFeatures):
        copy = on_device(features.features, device, share_of_free)
        return features.on(copy) if isinstance(copy, Tensor) else None
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if features.shape[0] * features.shape[1] * features.dtype.itemsize > share_of_free * free:
        return None
    if isinstance(features, np.ndarray | Tensor):
        return torch.as_tensor(features).to(device)
    return torch.from_numpy(features.take(np.arange(features.shape[0]))).to(device)
