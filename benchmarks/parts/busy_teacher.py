"""A teacher that keeps one processor busy per picture, and an encoder that takes no time, for benchmarks/workers.py.

Their specs are this file's path with `:Busy?rounds=N` and `:Size`. The variable ARMADA_BUSY_LOG names a file that gets
the time of each picture.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from teacher_cache import Picture, Request
from tests.fakes import png


def work(rounds: int) -> int:
    """Compute for a time that grows with `rounds`, in one thread."""
    number = 1
    for _ in range(rounds):
        number = number * 1103515245 % 2147483648 + 12345
    return number


class Busy:
    """Draws noise after a fixed amount of work."""

    licence, price_usd, deterministic = "CC0", None, True

    def __init__(self, spec) -> None:
        self._rounds = spec.options({"rounds": 1_000_000})["rounds"]
        self.spec = {"kind": "busy"}

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture]:
        for request in requests:
            work(self._rounds)
            with Path(os.environ["ARMADA_BUSY_LOG"]).open("a") as log:
                log.write(f"{time.time()}\n")
            yield Picture(request.image_key, png(request.seed), "png")


class Size:
    """A feature that takes no time."""

    dimension, batch_size = 2, 256

    def __init__(self, spec) -> None:
        spec.options({})
        self.spec = {"kind": "size", "dimension": 2}

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        return np.array([[1, len(picture) / 1e5] for picture in pictures], np.float32)
