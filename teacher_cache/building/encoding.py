"""Encoding: stored pictures into feature shards. A killed encoding repeats at most one uncommitted shard, for free.

A feature with a NaN, an infinity or no length never reaches a shard.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from teacher_cache.encoders import Encoder, TwoStepEncoder, dtype_of, source_of_encoder
from teacher_cache.errors import CacheError
from teacher_cache.format.commits import Provenance
from teacher_cache.format.shards import is_sound
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.progress_bar import progress
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import read_pictures
from teacher_cache.storage.writing import commit_features, commit_samples, image_rows


@dataclass
class Encoded:
    """What an encoding wrote and refused, and its time in seconds."""

    written: int = 0
    refused: int = 0
    seconds: float = 0.0

    def add(self, other: Encoded) -> None:
        """Count another encoding too."""
        self.written += other.written
        self.refused += other.refused
        self.seconds += other.seconds


def encode(
    cache: Cache,
    teacher: Source,
    encoder: Encoder,
    parts: Iterable[pa.Table],
    total: int,
    *,
    provenance: Provenance,
    stop: Callable[[], bool] = lambda: False,
    format: str = "parquet",
) -> Encoded:
    """Encode the pictures of index rows, `total` in all (with `path`, in tar order); a shard and a commit a part.
    `format` decides whether the features stand in Parquet or beside picture and prompt in a tar."""
    done = Encoded()
    if not total:
        return done
    started = time.monotonic()
    encoder_source = source_of_encoder(encoder)
    with progress(total, f"encoder {encoder_source.spec.get('kind', '')}", "picture") as bar:
        for part in parts:
            if stop():
                break
            prompts = part["prompt"].to_pylist()
            features = np.concatenate(list(encode_pictures(encoder, read_pictures(cache, part), prompts, bar.update)))
            sound = is_sound(features, dtype_of(encoder))
            done.add(Encoded(int(sound.sum()), int((~sound).sum())))
            kept, features = part.filter(pa.array(sound)), features[sound]
            if format == "webdataset" and len(features):
                facts = image_rows(kept)
                commit_samples(cache, teacher, encoder_source, facts, read_pictures(cache, kept), features, provenance)
            elif len(features):
                commit_features(cache, teacher, encoder_source, kept, features, provenance)
    done.seconds = time.monotonic() - started
    return done


def encode_pictures(
    encoder: Encoder, pictures: Iterator[bytes], prompts: Sequence[str], done: Callable[[int], object] = lambda _: None
) -> Iterator[np.ndarray]:
    """Features (B, L) float32, batch by batch; where the encoder has two steps, the first runs beside the second.

    Raises CacheError for a shape that the encoder didn't promise.
    """
    if isinstance(encoder, TwoStepEncoder):
        batches = prefetch(encoder, pictures, prompts)
    else:
        batches = _one_by_one(encoder, pictures, prompts)
    for count, features in batches:
        expected = (count, encoder.dimension)
        if features.shape != expected:
            raise CacheError(
                f"the encoder gave features of shape {features.shape}, expected {expected}; nothing written"
            )
        done(count)
        yield np.asarray(features, np.float32)


def _one_by_one(
    encoder: Encoder, pictures: Iterator[bytes], prompts: Sequence[str]
) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(prompts), encoder.batch_size):
        texts = prompts[start : start + encoder.batch_size]
        yield len(texts), encoder.encode([next(pictures) for _ in texts], texts)


# --- merged: teacher_cache.building.encoding
# Preparation beside the model: threads decode and resize the next batch while one thread embeds this one.
THREADS = min(16, os.cpu_count() or 1)  # that prepare; a picture's decoder and resizer leave the interpreter's lock


def prefetch(
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
