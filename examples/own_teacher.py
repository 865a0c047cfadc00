"""A teacher of your own: it draws the colours that a text names, as stripes.

    armada cache build prompts.txt --teacher 'examples/own_teacher.py:Stripes?size=64' \\
        --encoder efficientnet-lite0 --cache ./cache

A teacher is any class with `spec`, `licence`, `price_usd` and `draw`. Three rules make its pictures worth keeping:
`spec` has everything that changes a picture and nothing else; a picture depends on its request alone, never on the
batch or the order; and what can't be drawn is a `Failure` with a reason, never an empty picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from teacher_cache import Failure, Picture, Request

NAMED = re.compile(r"[a-z]+")


class Stripes:
    """Draws a stripe for each colour that CSS knows by a word of the text."""

    licence = "CC0-1.0"
    price_usd = None  # dollars per picture, if it has a price
    deterministic = True  # the same request gives the same bytes: `armada cache verify --recompute` checks it

    def __init__(self, spec: Any) -> None:
        options = spec.options({"size": 128, "noise": 4})  # defaults; an unknown option is an error that names these
        self.size, self.noise = options["size"], options["noise"]
        self.spec = {"kind": "stripes", "version": 1, "size": self.size, "noise": self.noise}

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request, in any order."""
        for request in requests:
            colours = [word for word in NAMED.findall(request.prompt.lower()) if word in ImageColor.colormap]
            if colours:
                yield Picture(request.image_key, self._png(colours, request.seed), "png")
            else:
                yield Failure(request.image_key, "refused", "the text names no colour")

    def _png(self, colours: list[str], seed: int) -> bytes:
        pixels = np.zeros((self.size, self.size, 3), np.float32)
        for colour, stripe in zip(colours, np.array_split(pixels, len(colours), axis=1), strict=True):
            stripe[:] = ImageColor.getrgb(colour)[:3]
        pixels += np.random.default_rng(seed).normal(0, self.noise, pixels.shape)  # samples of one text differ
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "PNG")
        return stream.getvalue()
