"""Caches of fake pictures, and the comparison of their rows, for the tests of maintenance."""

from __future__ import annotations

import numpy as np

from teacher_cache import (
    BuildOptions,
    Cache,
    Encoder,
    Teacher,
    build,
    choose,
    open_encoder,
    open_features,
    open_teacher,
)

PROMPTS = [f"prompt {i}" for i in range(30)]
SMALL = BuildOptions(shard_rows=4, seal_rows=4)


def adapters(text: str = "tests.fakes:FakeTeacher") -> tuple[Teacher, Encoder]:
    """Return a fake teacher and a fake encoder that the cache can open again by their specs."""
    return open_teacher(text), open_encoder("tests.fakes:FakeEncoder")


def rows_of(cache: Cache) -> dict[str, tuple[str, bytes | None]]:
    """Return every row of a cache: image key -> (digest of its picture, bytes of its feature or None)."""
    teacher, encoder = choose(cache, None, None)
    features = open_features(cache, teacher, encoder)
    images = {row["image_key"]: row["image_sha256"] for row in cache.images(teacher).to_pylist()}
    vectors = {key: features.take(np.array([row])).tobytes() for row, key in enumerate(features.keys.to_pylist())}
    return {key: (digest, vectors.get(key)) for key, digest in images.items()}


def builds_for_free(cache: Cache) -> bool:
    """Return whether a build of PROMPTS neither calls the teacher nor encodes a picture."""
    report = build(cache, PROMPTS, *adapters())
    return (report.calls, report.encoded) == (0, 0)
