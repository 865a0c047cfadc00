"""Preparation beside the model: threads decode and resize the next batch while one thread embeds this one.

Features come in the pictures' order, and at most three batches are in memory, however slow either side is.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np

from teacher_cache.encoders import TwoStepEncoder
from teacher_cache.errors import CacheError
from teacher_cache.keys import sha256

THREADS = min(16, os.cpu_count() or 1)  # that prepare; a picture's decoder and resizer leave the interpreter's lock


def embedded(
    encoder: TwoStepEncoder, pictures: Iterator[bytes], prompts: Sequence[str]
) -> Iterator[tuple[int, np.ndarray]]:
    """Batch by batch, the number of pictures and their features (B, L). Pictures are read on the caller's thread.

    Raises CacheError, with the prompt and the sha256, for a picture that the encoder can't prepare.
    """
    pairs = zip(pictures, prompts, strict=True)
    hands, model = ThreadPoolExecutor(THREADS), ThreadPoolExecutor(1)
    running: deque[tuple[int, Future[np.ndarray]]] = deque()  # one in the model, one being prepared
    try:
        while batch := [hands.submit(_prepared, encoder, *pair) for pair in islice(pairs, encoder.batch_size)]:
            running.append((len(batch), model.submit(_features, encoder, batch)))
            if len(running) == 2:
                count, features = running.popleft()
                yield count, features.result()
        for count, features in running:
            yield count, features.result()
    finally:
        hands.shutdown(cancel_futures=True)
        model.shutdown(cancel_futures=True)


def _prepared(encoder: TwoStepEncoder, picture: bytes, prompt: str) -> Any:
    try:
        return encoder.prepare(picture, prompt)
    except Exception as error:
        raise CacheError(
            f"the picture of {prompt!r} (sha256 {sha256(picture)}, {len(picture)} bytes) can't be prepared for the "
            f'encoder {encoder.spec.get("kind")}: {error}; run "armada cache verify --repair" and the build again'
        ) from error


def _features(encoder: TwoStepEncoder, batch: Sequence[Future[Any]]) -> np.ndarray:
    return encoder.embed([prepared.result() for prepared in batch])
