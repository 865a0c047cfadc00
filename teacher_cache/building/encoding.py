"""Encoding: compute features of stored pictures and write them into shards. Threads prepare the next batch of pictures
while one thread runs the model on this batch.

A killed encoding repeats at most one uncommitted shard, without teacher calls. A feature that contains a NaN or an
infinity, or is zero, is not written.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from teacher_cache.encoders import Encoder, TwoStepEncoder, dtype_of, source_of_encoder
from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.shards import is_sound
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.progress_bar import progress
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import read_pictures
from teacher_cache.storage.samples import samples_folder, write_sample_tar
from teacher_cache.storage.writing import commit_features

THREADS = min(16, os.cpu_count() or 1)  # that prepare pictures; decoding and resizing release the interpreter's lock


@dataclass
class Encoded:
    """The number of features that an encoding wrote and refused, and its time in seconds."""

    written: int = 0
    refused: int = 0
    seconds: float = 0.0

    def add(self, other: Encoded) -> None:
        """Add the numbers of another encoding."""
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
    """Encode stored pictures and commit their features.

    Args:
        cache: The cache with the pictures.
        teacher: The source of the pictures.
        encoder: The encoder.
        parts: Index rows with `path`, in tar order; each part becomes one shard and one commit.
        total: The number of rows in all parts.
        provenance: What the commits record about this build.
        stop: Called before each batch, and ten times per second; encoding ends when it returns True. What is encoded by
            then is committed, without the batch in the model.
        format: "parquet", or "webdataset" to write also each picture with its facts and its feature into a tar.

    Raises CacheError if a picture is damaged or cannot be prepared, or a feature has the wrong shape.
    """
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
            batches = list(encode_pictures(encoder, read_pictures(cache, part), prompts, bar.update, stop))
            if not batches:
                break
            features = np.concatenate(batches)
            part = part.slice(0, len(features))  # what was encoded until `stop`
            sound = is_sound(features, dtype_of(encoder))
            done.add(Encoded(int(sound.sum()), int((~sound).sum())))
            kept, features = part.filter(pa.array(sound)), features[sound]
            if not len(features):
                continue
            shard = commit_features(cache, teacher, encoder_source, kept, features, provenance)
            if format == "webdataset":
                name = shard.path.rpartition("/")[2].removesuffix(".parquet")
                path = f"{samples_folder(teacher, encoder_source)}/{name}.tar"
                write_sample_tar(cache, cache.store, path, kept, features.astype(dtype_of(encoder)))
    done.seconds = time.monotonic() - started
    return done


def encode_pictures(
    encoder: Encoder,
    pictures: Iterator[bytes],
    prompts: Sequence[str],
    done: Callable[[int], object] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[np.ndarray]:
    """Yield the features (B, L) float32 of pictures, batch by batch; `done` is called with the size of each batch.

    The iterator ends early if `stop` returns True; it does not wait for the batch in the model.

    If the encoder has two steps, pictures are prepared while the model runs. Raises CacheError if a picture cannot be
    prepared, or the features have another shape than (B, encoder.dimension).
    """
    if isinstance(encoder, TwoStepEncoder):
        batches = prefetch(encoder, pictures, prompts, stop)
    else:
        batches = _one_by_one(encoder, pictures, prompts, stop)
    for count, features in batches:
        expected = (count, encoder.dimension)
        if features.shape != expected:
            raise CacheError(
                f"the encoder returned features of shape {features.shape}, expected {expected}; nothing was written"
            )
        done(count)
        yield np.asarray(features, np.float32)


def _one_by_one(
    encoder: Encoder, pictures: Iterator[bytes], prompts: Sequence[str], stop: Callable[[], bool]
) -> Iterator[tuple[int, np.ndarray]]:
    model = ThreadPoolExecutor(1)
    interrupted = False
    try:
        for start in range(0, len(prompts), encoder.batch_size):
            texts = prompts[start : start + encoder.batch_size]
            features = model.submit(encoder.encode, [next(pictures) for _ in texts], texts)
            if not _is_done(features, stop):
                return
            yield len(texts), features.result()
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:
        model.shutdown(wait=not (interrupted or stop()), cancel_futures=True)


def prefetch(
    encoder: TwoStepEncoder,
    pictures: Iterator[bytes],
    prompts: Sequence[str],
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the size and the features (B, L) of each batch, preparing the next batch while the model runs.

    Pictures are read on the caller's thread; at most three batches are in memory. Raises CacheError, with the prompt
    and the sha256, if the encoder cannot prepare a picture.
    """
    pairs = zip(pictures, prompts, strict=True)
    workers, model = ThreadPoolExecutor(THREADS), ThreadPoolExecutor(1)
    running: deque[tuple[int, Future[np.ndarray]]] = deque()  # one batch in the model, one in preparation
    interrupted = False
    try:
        while batch := [workers.submit(_prepared, encoder, *pair) for pair in islice(pairs, encoder.batch_size)]:
            running.append((len(batch), model.submit(_features, encoder, batch)))
            if len(running) == 2:
                count, features = running.popleft()
                if not _is_done(features, stop):
                    return
                yield count, features.result()
        for count, features in running:
            if not _is_done(features, stop):
                return
            yield count, features.result()
    except KeyboardInterrupt:
        interrupted = True
        raise
    finally:  # the model may need seconds for its batch
        workers.shutdown(wait=not (interrupted or stop()), cancel_futures=True)
        model.shutdown(wait=not (interrupted or stop()), cancel_futures=True)


def _is_done(task: Future[Any], stop: Callable[[], bool]) -> bool:
    """Wait for a task; return False at once if `stop` returns True."""
    while not stop():
        if wait([task], timeout=0.1).done:
            return True
    return False


def _prepared(encoder: TwoStepEncoder, picture: bytes, prompt: str) -> Any:
    try:
        return encoder.prepare(picture, prompt)
    except Exception as error:
        raise CacheError(
            f"the picture of {prompt!r} (sha256 {sha256(picture)}, {len(picture)} bytes) cannot be prepared for the "
            f"encoder {encoder.spec.get('kind')}: {error}; {repair_hint()}"
        ) from error


def _features(encoder: TwoStepEncoder, batch: Sequence[Future[Any]]) -> np.ndarray:
    return encoder.embed([prepared.result() for prepared in batch])
