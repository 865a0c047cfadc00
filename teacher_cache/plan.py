"""The plan of a build: which pictures and features a list of prompts needs, and which of them are at hand.

A pure function of the prompts and what the cache holds. Nothing is called or written. All of it is columns, so that a
million prompts plan in seconds and a few hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.cache import Cache
from teacher_cache.columns import concat, counts, first_of_each, one_array
from teacher_cache.keys import image_key, normalise, prompt_key, seed_of
from teacher_cache.pictures import in_tar_order
from teacher_cache.sources import Source
from teacher_cache.spool import Spool, Wanted
from teacher_cache.teachers import Request

ASKED = pa.schema(
    [("image_key", pa.string()), ("prompt_key", pa.string()), ("prompt", pa.string()), ("sample", pa.int32())]
)
_TEXTS = pa.schema([("prompt_key", pa.string()), ("prompt", pa.string())])
_CHUNK = 65_536


@dataclass(frozen=True)
class Plan:
    """`asked` are all pictures that the prompts need (ASKED, one row a key), `wanted` those to call for (ASKED and
    `attempts`, the calls that failed before)."""

    rows: int
    unique_prompts: int
    asked: pa.Table
    pictures_at_hand: int
    features_at_hand: int
    failed: Mapping[str, int]  # known failures among the asked, by reason; `retry` takes them up, `build` doesn't
    wanted: pa.Table

    @property
    def keys(self) -> pa.Array:
        """The image keys of all that was asked."""
        return one_array(self.asked["image_key"])


def ask(teacher: Source, prompts: Sequence[str], samples: int = 1, limit: int | None = None) -> pa.Table:
    """The pictures that prompts need, (ASKED): duplicates count once, `limit` keeps the first unique prompts."""
    parts = []
    for start in range(0, len(prompts), _CHUNK):
        texts = prompts[start : start + _CHUNK]
        parts.append(
            pa.table([[prompt_key(text) for text in texts], [normalise(text) for text in texts]], schema=_TEXTS)
        )
    table = first_of_each(concat(parts, _TEXTS), "prompt_key").slice(0, limit)
    return concat([_keyed(teacher, batch, samples) for batch in table.to_batches(max_chunksize=_CHUNK)], ASKED)


def _keyed(teacher: Source, batch: pa.RecordBatch, samples: int) -> pa.Table:
    rows = zip(batch["prompt_key"].to_pylist(), batch["prompt"].to_pylist(), strict=True)
    asked = [
        (image_key(teacher.digest, key, sample), key, prompt, sample)
        for key, prompt in rows
        for sample in range(samples)
    ]
    return pa.table([list(column) for column in zip(*asked, strict=True)], schema=ASKED)


def make_plan(
    cache: Cache, teacher: Source, encoder: Source, asked: pa.Table, *, rows: int, retry: Sequence[str] = ()
) -> Plan:
    """Plan for what is asked, of `rows` prompts in all. Failures with a reason in `retry` are wanted again."""
    keys = one_array(asked["image_key"])
    images = cache.images(teacher, ["image_key", "image_sha256"])
    failures = cache.failures(teacher)
    at_hand = pc.is_in(keys, one_array(images["image_key"]))
    failure = pc.index_in(keys, one_array(failures["image_key"]))
    reason = pc.take(one_array(failures["reason"]), failure)
    attempts = pc.fill_null(pc.take(one_array(failures["attempts"]), failure), 0)
    known = pc.and_(pc.invert(at_hand), pc.is_valid(failure))
    failed = pc.and_(known, pc.invert(pc.is_in(reason, pa.array(list(retry), pa.string()))))
    wanted = asked.append_column("attempts", attempts).filter(pc.invert(pc.or_(at_hand, failed)))
    pictures = pc.sum(at_hand).as_py() or 0
    lacking = without_feature(cache, teacher, encoder, images.filter(pc.is_in(images["image_key"], keys))).num_rows
    return Plan(
        rows=rows,
        unique_prompts=pc.count_distinct(asked["prompt_key"]).as_py(),
        asked=asked,
        pictures_at_hand=pictures,
        features_at_hand=pictures - lacking,
        failed=counts(reason.filter(failed)),
        wanted=wanted,
    )


def features_to_encode(cache: Cache, teacher: Source, encoder: Source, keys: pa.Array) -> pa.Table:
    """The index rows of `keys` whose picture is at hand and whose feature isn't, in the order of tars and offsets.

    A feature that stands beside another picture than the one that counts is no feature.
    """
    images = cache.images(teacher)
    needed = images.filter(pc.is_in(images["image_key"], keys))
    missing = without_feature(cache, teacher, encoder, needed)
    return in_tar_order(missing)


def without_feature(cache: Cache, teacher: Source, encoder: Source, images: pa.Table) -> pa.Table:
    """Those rows of an index whose own picture has no feature in the cache."""
    have = cache.feature_keys(teacher, encoder)
    have_pairs = pc.binary_join_element_wise(have["image_key"], have["image_sha256"], "/")
    pairs = pc.binary_join_element_wise(images["image_key"], images["image_sha256"], "/")
    return images.filter(pc.invert(pc.is_in(pairs, one_array(have_pairs))))


def requests_of(wanted: pa.Table) -> Iterator[Wanted]:
    """The wanted rows one by one, made when they are needed."""
    for batch in wanted.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            key = row["image_key"]
            yield Wanted(Request(key, row["prompt"], row["sample"], seed_of(key)), row["prompt_key"], row["attempts"])


def expected_seconds(cache: Cache, teacher: Source, encoder: Source, plan: Plan) -> float | None:
    """How long the plan's calls and encodings take at the rates measured on this machine; None before any was."""
    path = cache.machine_folder / "spool.sqlite"
    if not path.exists():
        return None
    with Spool(cache.machine_folder) as spool:
        call = spool.seconds_a_row(f"teacher {teacher.name}")
        encoding = spool.seconds_a_row(f"encoder {encoder.name}")
    calls, features = plan.wanted.num_rows, len(plan.keys) - plan.features_at_hand
    if (calls and call is None) or (features and encoding is None):
        return None
    return float(calls * (call or 0.0) + features * (encoding or 0.0))
