"""The plan of a build: which pictures and features a list of prompts needs, and which of them are at hand.

A pure function of the prompts and what the cache holds. Nothing is called or written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.cache import Cache, Source
from teacher_cache.keys import image_key, normalise, prompt_key, seed_of
from teacher_cache.spool import Wanted
from teacher_cache.teachers import Request


@dataclass(frozen=True)
class Plan:
    """`keys` are all image keys that the prompts need, (unique prompts x samples); `wanted` are the calls to make."""

    rows: int
    unique_prompts: int
    keys: pa.Array
    pictures_at_hand: int
    features_at_hand: int
    failed: Mapping[str, int]  # known failures among the keys, by reason; `retry` takes them up, `build` doesn't
    wanted: Sequence[Wanted]


def make_plan(
    cache: Cache,
    teacher: Source,
    encoder: Source,
    prompts: Sequence[str],
    *,
    samples: int = 1,
    limit: int | None = None,
    retry: Sequence[str] = (),
) -> Plan:
    """Plan the build of prompts (duplicates count once; `limit` keeps the first unique ones). Failures with a reason
    in `retry` are wanted again."""
    unique: dict[str, str] = {}
    for prompt in prompts:
        unique.setdefault(prompt_key(prompt), normalise(prompt))
    if limit is not None:
        unique = dict(list(unique.items())[:limit])
    order = [(image_key(teacher.digest, key, sample), key, sample) for key in unique for sample in range(samples)]
    keys = pa.array([entry[0] for entry in order], pa.string())

    images = cache.images(teacher)
    failures = cache.failures(teacher)
    at_hand = pc.is_in(keys, images["image_key"].combine_chunks())
    failure_of = pc.index_in(keys, failures["image_key"].combine_chunks()).to_pylist()
    reasons = failures["reason"].to_pylist()
    attempts = failures["attempts"].to_pylist()

    failed: dict[str, int] = {}
    wanted = []
    for (key, digest, sample), drawn, failure in zip(order, at_hand.to_pylist(), failure_of, strict=True):
        if drawn:
            continue
        if failure is not None and reasons[failure] not in retry:
            failed[reasons[failure]] = failed.get(reasons[failure], 0) + 1
            continue
        request = Request(key, unique[digest], sample, seed_of(key))
        wanted.append(Wanted(request, digest, attempts[failure] if failure is not None else 0))
    pictures = pc.sum(at_hand).as_py() or 0
    return Plan(
        rows=len(prompts),
        unique_prompts=len(unique),
        keys=keys,
        pictures_at_hand=pictures,
        features_at_hand=pictures - features_to_encode(cache, teacher, encoder, keys, images).num_rows,
        failed=failed,
        wanted=wanted,
    )


def features_to_encode(cache: Cache, teacher: Source, encoder: Source, keys: pa.Array, images: pa.Table) -> pa.Table:
    """The index rows of `keys` whose picture is at hand and whose feature isn't, in the order of tars and offsets.

    A feature that stands beside another picture than the one that counts is no feature.
    """
    needed = images.filter(pc.is_in(images["image_key"], keys))
    have = cache.feature_keys(teacher, encoder)
    have_pairs = pc.binary_join_element_wise(have["image_key"], have["image_sha256"], "/")
    pairs = pc.binary_join_element_wise(needed["image_key"], needed["image_sha256"], "/")
    missing = needed.filter(pc.invert(pc.is_in(pairs, have_pairs.combine_chunks())))
    return missing.sort_by([("path", "ascending"), ("offset", "ascending")])
