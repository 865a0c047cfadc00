"""Encoders: they turn a picture into a feature, a vector of fixed length. A new encoder needs no teacher calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from teacher_cache.errors import SpecError
from teacher_cache.format.sources import Source
from teacher_cache.keys import spec_digest
from teacher_cache.registry.pretrained import Checkpoint
from teacher_cache.registry.specs import load, parse_spec

DTYPES = ("float16", "float32")
BUILT_IN = {
    "efficientnet-lite0": "teacher_cache.encoders.efficientnet:EfficientNetLite0",
    "open_clip": "teacher_cache.encoders.open_clip:OpenClip",
    "sd-latent": "teacher_cache.encoders.latents:StableDiffusionLatent",
    "text": "teacher_cache.encoders.text:TextControl",
    "transformers": "teacher_cache.encoders.vision:VisionTower",
    "vae-latent": "teacher_cache.encoders.latents:AutoencoderLatent",
}


class Encoder(Protocol):
    """The interface of an encoder. `spec` contains the digest of the weights and the preprocessing.

    `dimension` is the length L of a feature, `batch_size` the number of pictures per call of `encode`.
    """

    spec: Mapping[str, Any]
    dimension: int
    batch_size: int  # pictures per call of `encode`

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        """Return the features (B, dimension) float32 of B pictures (`teacher_cache.open_picture` decodes them) and
        their prompts."""
        ...


@runtime_checkable
class TwoStepEncoder(Encoder, Protocol):
    """An encoder that separates preprocessing from the forward pass, so that CPU threads prepare the next batch while
    the model runs."""

    def prepare(self, picture: bytes, prompt: str) -> Any:
        """Return the input of `embed` for one picture and its prompt. Called on several threads at once."""
        ...

    def embed(self, prepared: Sequence[Any]) -> np.ndarray:
        """Return the features (B, dimension) float32 of a batch of B results of `prepare`. Called on one thread."""
        ...


def open_encoder(text: str) -> Encoder:
    """Return the encoder that a spec names; its weights are loaded when it encodes for the first time.

    Every encoder has the option `dtype`, the number type in which its features are stored: float16 (the default) or
    float32. Raises SpecError if the spec names no known encoder or has an unknown option.
    """
    spec = parse_spec(text)
    dtype = spec.params.get("dtype", "float16")
    if dtype not in DTYPES:
        raise SpecError(f"{text}: option dtype expects one of {', '.join(DTYPES)}, found {dtype!r}")
    own = replace(spec, params={name: value for name, value in spec.params.items() if name != "dtype"})
    encoder: Any = load("encoder", BUILT_IN, own)
    encoder.dtype = dtype
    return encoder  # type: ignore[no-any-return]


def source_of_encoder(encoder: Encoder) -> Source:
    """Return the record of an encoder that the cache stores; its spec includes the stored number type. Its `text` is
    shown to users; nothing is opened by it."""
    spec = {**encoder.spec, "dimension": encoder.dimension, "dtype": dtype_of(encoder)}
    checkpoint = getattr(encoder, "_checkpoint", None)
    commit = {"commit": checkpoint.commit} if isinstance(checkpoint, Checkpoint) and checkpoint.commit else {}
    return Source(spec, spec_digest(spec), {"text": getattr(encoder, "text", ""), **commit})


def dtype_of(encoder: Encoder) -> str:
    """Return the number type in which features are stored: float16, or float32 if the spec has `?dtype=float32`."""
    return str(getattr(encoder, "dtype", "float16"))
