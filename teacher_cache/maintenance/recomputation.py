"""Recomputation: encode and, if the teacher is deterministic, draw some stored rows again, and compare them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from teacher_cache.building.encoding import encode_pictures
from teacher_cache.encoders import same_encoder
from teacher_cache.errors import SpecError
from teacher_cache.format.sources import Source
from teacher_cache.keys import seed_of, sha256
from teacher_cache.reading.reader import open_features
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import in_tar_order, read_pictures
from teacher_cache.teachers import Picture, Request, same_teacher

TOLERANCE = 5e-3  # relative to a feature's largest number; float16 rounding takes a tenth of it, another batch less


@dataclass(frozen=True)
class Recomputed:
    """How many rows of a source were computed again (`asked`), and how many of them differ.

    `largest_difference` is relative to a feature's largest number. `skipped` is the reason if no row was computed.
    """

    source: str
    asked: int
    differing: int
    largest_difference: float | None = None
    skipped: str = ""


def recompute(cache: Cache, count: int, seed: int = 0) -> list[Recomputed]:
    """Compute `count` random pictures of each teacher, chosen by `seed`, and their features again.

    Return one entry per teacher and one per encoder. Raise CacheError if a stored row is damaged.
    """
    results = []
    for teacher in cache.teachers():
        images = cache.images(teacher)
        chosen = np.random.default_rng(seed).permutation(images.num_rows)[:count]
        rows = in_tar_order(images.take(pa.array(chosen)))
        if rows.num_rows:
            results.append(_redraw(teacher, rows))
            results += [_reencode(cache, teacher, encoder, rows) for encoder in cache.encoders(teacher)]
    return results


def _redraw(teacher: Source, rows: pa.Table) -> Recomputed:
    """Draw the pictures of index rows again, and compare their digests."""
    if not teacher.facts.get("deterministic"):
        return Recomputed(teacher.name, 0, 0, skipped="the teacher isn't deterministic, or doesn't say so")
    try:
        opened = same_teacher(teacher)
    except SpecError as error:
        return Recomputed(teacher.name, 0, 0, skipped=str(error))
    expected = dict(zip(rows["image_key"].to_pylist(), rows["image_sha256"].to_pylist(), strict=True))
    columns = rows.select(["image_key", "prompt", "sample"]).to_pylist()
    requests = [Request(row["image_key"], row["prompt"], row["sample"], seed_of(row["image_key"])) for row in columns]
    differing = 0
    for answer in opened.draw(iter(requests)):
        same = isinstance(answer, Picture) and sha256(answer.data) == expected[answer.image_key]
        differing += not same
    return Recomputed(teacher.name, len(requests), differing)


def _reencode(cache: Cache, teacher: Source, encoder: Source, rows: pa.Table) -> Recomputed:
    """Encode the stored pictures of index rows again, and compare the features with the stored ones."""
    try:
        opened = same_encoder(encoder)
    except SpecError as error:
        return Recomputed(encoder.name, 0, 0, skipped=str(error))
    features = open_features(cache, teacher, encoder)
    places = features.rows_of_keys(rows["image_key"])
    rows = rows.filter(pa.array(places >= 0))
    stored = features.take(places[places >= 0]).astype(np.float32)
    if not rows.num_rows:
        return Recomputed(encoder.name, 0, 0, skipped="none of these pictures has a feature")
    again = np.concatenate(list(encode_pictures(opened, read_pictures(cache, rows), rows["prompt"].to_pylist())))
    difference = np.abs(again - stored).max(axis=1) / np.abs(stored).max(axis=1)  # (N,)
    return Recomputed(encoder.name, rows.num_rows, int((difference > TOLERANCE).sum()), float(difference.max()))
