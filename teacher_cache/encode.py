"""Encoding: stored pictures into feature shards. A killed encoding repeats at most one uncommitted shard, for free.

A feature with a NaN, an infinity or no length never reaches a shard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.cache import Cache
from teacher_cache.encoders import Encoder, TwoStepEncoder
from teacher_cache.errors import CacheError
from teacher_cache.pictures import read_pictures
from teacher_cache.preparation import embedded
from teacher_cache.progress_bar import progress
from teacher_cache.samples import commit_samples, feature_metadata, image_rows
from teacher_cache.shards import feature_column, feature_schema
from teacher_cache.signature import Signature
from teacher_cache.sources import Source, dtype_of, encoder_source

FORMATS = ("parquet", "webdataset")


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
    signature: Signature,
    stop: Callable[[], bool] = lambda: False,
    format: str = "parquet",
) -> Encoded:
    """Encode the pictures of index rows, `total` in all (with `path`, in tar order); a shard and a commit a part.
    `format` decides whether the features stand in Parquet or beside picture and prompt in a tar."""
    done = Encoded()
    if not total:
        return done
    started = time.monotonic()
    reader = encoder_source(encoder)
    with progress(total, f"encoder {reader.spec.get('kind', '')}", "picture") as bar:
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
                commit_samples(cache, teacher, reader, facts, read_pictures(cache, kept), features, signature)
            elif len(features):
                commit_features(cache, teacher, reader, kept, features, signature)
    done.seconds = time.monotonic() - started
    return done


def is_sound(features: np.ndarray, dtype: str | None = None) -> np.ndarray:
    """(N,) bool: which of (N, L) features are finite and of some length, in the number type that they are stored in."""
    rounded = features.astype(dtype or features.dtype, copy=False)
    sound: np.ndarray = np.isfinite(rounded).all(axis=1) & (rounded != 0).any(axis=1)
    return sound


def commit_features(
    cache: Cache,
    teacher: Source,
    reader: Source,
    rows: pa.Table,
    features: np.ndarray,
    signature: Signature,
    replaced: Iterable[str] = (),
) -> None:
    """Write the features (N, L) of rows (image_key, image_sha256, prompt_key, sample), sorted by key, as one Parquet
    shard and commit it."""
    order = pc.sort_indices(rows["image_key"]).to_numpy()
    rows, features = rows.take(order), features[order]
    columns = [rows[name].combine_chunks() for name in ("image_key", "image_sha256", "prompt_key", "sample")]
    dtype = reader.spec["dtype"]
    stored = features.astype(dtype)
    schema = feature_schema(features.shape[1], dtype, feature_metadata(teacher, reader, features, stored))
    table = pa.table([*columns, feature_column(stored)], schema=schema)
    shard = cache.write_shard(f"features/{teacher.name}/{reader.name}/shards", table)
    cache.commit([shard], replaced=replaced, **signature.now())


def encode_pictures(
    encoder: Encoder, pictures: Iterator[bytes], prompts: Sequence[str], done: Callable[[int], object] = lambda _: None
) -> Iterator[np.ndarray]:
    """Features (B, L) float32, batch by batch; where the encoder has two steps, the first runs beside the second.

    Raises CacheError for a shape that the encoder didn't promise.
    """
    if isinstance(encoder, TwoStepEncoder):
        batches = embedded(encoder, pictures, prompts)
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
