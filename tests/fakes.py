"""A fake teacher and a fake encoder that are cheap, count their calls, and fail for prompts that request a failure.

Their specs are `tests.fakes:FakeTeacher?style=plain` and `tests.fakes:FakeEncoder`. Two environment variables work
across processes: ARMADA_FAKE_LOG (a file to which each call appends a line) and ARMADA_FAKE_DELAY (seconds per call).
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from teacher_cache import Failure, Picture, Request
from teacher_cache.registry.specs import Spec


def png(seed: int, side: int = 16) -> bytes:
    """Return a PNG of noise that depends on the seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def flat(colour: str) -> bytes:
    """Return a PNG of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(stream, "PNG")
    return stream.getvalue()


class FakeTeacher:
    """Draws noise from the request's seed. A prompt that begins with a reason in brackets fails: `[refused] a cat`."""

    licence = "CC0"

    def __init__(self, spec: Spec, price_usd: float | None = None) -> None:
        options = spec.options({"style": "plain", "price": 0.0})
        self.spec = {"kind": "fake", "style": options["style"]}
        self.price_usd = options["price"] or price_usd
        self.calls: list[str] = []

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        for request in requests:
            self.calls.append(request.image_key)
            if log := os.environ.get("ARMADA_FAKE_LOG"):
                with Path(log).open("a") as stream:
                    stream.write(request.image_key + "\n")
            time.sleep(float(os.environ.get("ARMADA_FAKE_DELAY", "0")))
            yield self._answer(request)

    def _answer(self, request: Request) -> Picture | Failure:
        key, prompt, cost = request.image_key, request.prompt, self.price_usd
        if prompt.startswith("[blank]"):
            return Picture(key, flat("black"), "png", cost)
        if prompt.startswith("[undecodable]"):
            return Picture(key, b"<html>no picture</html>", "png", cost)
        if prompt.startswith("["):
            return Failure(key, prompt[1 : prompt.index("]")], "the prompt asked for it", cost)
        return Picture(key, png(request.seed), "png", cost, 0.001)


class FakeEncoder:
    """Averages the picture's stripes. The feature of a prompt that begins with `(nan)` or `(zero)` is NaN or zero."""

    batch_size = 4

    def __init__(self, spec: Spec) -> None:
        options = spec.options({"dimension": 8, "version": "1"})
        self.dimension: int = options["dimension"]
        self.spec = {"kind": "fake-encoder", "dimension": self.dimension, "version": options["version"]}
        self.encoded = 0

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        self.encoded += len(pictures)
        time.sleep(float(os.environ.get("ARMADA_FAKE_ENCODER_DELAY", "0")))
        rows = []
        for picture, prompt in zip(pictures, prompts, strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"), np.float32).reshape(-1) / 255 - 0.5
            row = np.array([part.mean() for part in np.array_split(pixels, self.dimension)], np.float32)
            rows.append(row * {"(nan)": np.nan, "(zero)": 0}.get(prompt[: prompt.find(")") + 1], 1))
        return np.stack(rows).astype(np.float32)


def teacher(**options: object) -> FakeTeacher:
    return FakeTeacher(Spec("fake", "", {name: str(value) for name, value in options.items()}, "fake"))


def encoder(**options: object) -> FakeEncoder:
    return FakeEncoder(Spec("fake-encoder", "", {name: str(value) for name, value in options.items()}, "fake"))
