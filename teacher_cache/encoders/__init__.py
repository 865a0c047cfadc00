"""Encoders: a picture into a feature, a vector of fixed length. A new encoder costs no teacher call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from teacher_cache.errors import SpecError
from teacher_cache.format.sources import Source, _check_same
from teacher_cache.keys import spec_digest
from teacher_cache.registry import specs as plugins
from teacher_cache.registry.specs import parse_spec

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
    """What the cache asks of an encoder. `spec` names the weights' digest and the preprocessing."""

    spec: Mapping[str, Any]
    dimension: int
    batch_size: int  # pictures a call of `encode`

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        """Encoded pictures and their prompts into (B, dimension) float32."""
        ...


@runtime_checkable
class TwoStepEncoder(Encoder, Protocol):
    """An encoder that gives its steps apart, so that threads prepare the next pictures beside the model."""

    def prepare(self, picture: bytes, prompt: str) -> Any:
        """One picture and its prompt as `embed` takes them. Called on several threads at once."""
        ...

    def embed(self, prepared: Sequence[Any]) -> np.ndarray:
        """What `prepare` gave for a batch into (B, dimension) float32. Called on one thread."""
        ...


def open_encoder(text: str) -> Encoder:
    """The encoder that a spec names; its weights are loaded when it first encodes. Every encoder takes the option
    `dtype`, float16 (the default) or float32: how its features are stored. Raises SpecError."""
    spec = parse_spec(text)
    dtype = spec.params.get("dtype", "float16")
    if dtype not in DTYPES:
        raise SpecError(f"{text}: option dtype expects one of {', '.join(DTYPES)}, found {dtype!r}")
    own = replace(spec, params={name: value for name, value in spec.params.items() if name != "dtype"})
    encoder: Any = plugins.load("encoder", BUILT_IN, own)
    encoder.dtype = dtype
    return encoder  # type: ignore[no-any-return]


def source_of_encoder(encoder: Encoder) -> Source:
    """An encoder as the cache records it; its spec holds the stored number type too."""
    spec = {**encoder.spec, "dimension": encoder.dimension, "dtype": dtype_of(encoder)}
    return Source(spec, spec_digest(spec), {"text": getattr(encoder, "text", "")})


def dtype_of(encoder: Encoder) -> str:
    """float16, or float32 where the encoder's spec said `?dtype=float32`."""
    return str(getattr(encoder, "dtype", "float16"))


def same_encoder(source: Source) -> Encoder:
    """The encoder of a source, opened again by its text. Raises SpecError where that names another one by now."""
    opened = open_encoder(str(source.facts.get("text")))
    _check_same(source, source_of_encoder(opened), "encoder")
    return opened
