"""Encoders: a picture into a feature, a vector of fixed length. A new encoder costs no teacher call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from teacher_cache import plugins

BUILT_IN = {"efficientnet-lite0": "teacher_cache.encoders.efficientnet:EfficientNetLite0"}


class Encoder(Protocol):
    """What the cache asks of an encoder. `spec` names the weights' digest and the preprocessing."""

    spec: Mapping[str, Any]
    dimension: int
    batch_size: int  # pictures a call of `encode`

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        """Encoded pictures and their prompts into (B, dimension) float32."""
        ...


def open_encoder(text: str) -> Encoder:
    """The encoder that a spec names; its weights are loaded when it first encodes. Raises SpecError."""
    encoder: Encoder = plugins.load("encoder", BUILT_IN, text)
    return encoder
