"""The plan of a build: which pictures and features a list of prompts needs, and which of them the cache has.

A plan is a function of the prompts and the content of the cache; making it calls no teacher and writes nothing. It
works on Arrow columns: a plan for a million prompts takes seconds and a few hundred megabytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.building.spool_opening import open_existing_spool
from teacher_cache.format.arrow import concat, counts, first_of_each, one_array
from teacher_cache.format.sources import Source
from teacher_cache.keys import image_key, normalise, prompt_key, seed_of
from teacher_cache.spool.rows import Wanted
from teacher_cache.storage.cache import Cache
from teacher_cache.teachers import Request

REQUEST_COLUMNS = pa.schema(
    [("image_key", pa.string()), ("prompt_key", pa.string()), ("prompt", pa.string()), ("sample", pa.int32())]
)
_TEXTS = pa.schema([("prompt_key", pa.string()), ("prompt", pa.string())])
_CHUNK = 16_384


@dataclass(frozen=True)
class Plan:
    """What a build has to do. `at_hand` means: in the cache already."""

    rows: int  # of the input, duplicates included
    unique_prompts: int
    requests: pa.Table  # all pictures that the prompts need: REQUEST_COLUMNS, one row per image key
    pictures_at_hand: int
    features_at_hand: int
    failed: Mapping[str, int]  # number of earlier failures among `requests` by reason; only `retry` repeats them
    wanted: pa.Table  # the requests to send: REQUEST_COLUMNS and `attempts`, the number of earlier calls that failed

    @property
    def keys(self) -> pa.Array:
        """The image keys of all requests."""
        return one_array(self.requests["image_key"])


def make_requests(teacher: Source, prompts: Sequence[str], samples: int = 1, limit: int | None = None) -> pa.Table:
    """Return the pictures that prompts need, as REQUEST_COLUMNS without duplicates: `samples` per prompt, for the first
    `limit` unique prompts."""
    parts = []
    for start in range(0, len(prompts), _CHUNK):
        texts = [normalise(text) for text in prompts[start : start + _CHUNK]]
        parts.append(pa.table([[prompt_key(text) for text in texts], texts], schema=_TEXTS))
    table = first_of_each(concat(parts, _TEXTS), "prompt_key").slice(0, limit)
    return concat(
        [_keyed(teacher, batch, samples) for batch in table.to_batches(max_chunksize=_CHUNK)], REQUEST_COLUMNS
    )


def _keyed(teacher: Source, batch: pa.RecordBatch, samples: int) -> pa.Table:
    numbers = range(samples)
    keys = [image_key(teacher.digest, key, n) for key in batch["prompt_key"].to_pylist() for n in numbers]
    texts = batch if samples == 1 else batch.take(np.repeat(np.arange(batch.num_rows), samples))
    sample = np.tile(np.arange(samples, dtype=np.int32), batch.num_rows)
    return pa.table([keys, texts["prompt_key"], texts["prompt"], sample], schema=REQUEST_COLUMNS)


def make_plan(
    cache: Cache, teacher: Source, encoder: Source, requests: pa.Table, *, rows: int, retry: Sequence[str] = ()
) -> Plan:
    """Return the plan for a table of requests (REQUEST_COLUMNS), which stand for `rows` rows of the input. Failures
    whose reason is in `retry` are requested again."""
    keys, images = requests["image_key"], cache.images(teacher, [])
    place = pc.index_in(keys, images["image_key"])
    at_hand = place.is_valid()
    features_at_hand = int(has_feature(cache, teacher, encoder, images)[place.drop_null().to_numpy()].sum())
    del images, place
    failures = cache.failures(teacher)
    failure = pc.index_in(keys, failures["image_key"])
    reason = pc.take(failures["reason"], failure)
    attempts = pc.fill_null(pc.take(failures["attempts"], failure), 0)
    known = pc.and_(pc.invert(at_hand), pc.is_valid(failure))
    failed = pc.and_(known, pc.invert(pc.is_in(reason, pa.array(list(retry), pa.string()))))
    return Plan(
        rows=rows,
        unique_prompts=len(pc.unique(requests["prompt_key"])),
        requests=requests,
        pictures_at_hand=pc.sum(at_hand).as_py() or 0,
        features_at_hand=features_at_hand,
        failed=counts(reason.filter(failed)),
        wanted=requests.append_column("attempts", attempts).filter(pc.invert(pc.or_(at_hand, failed))),
    )


def missing_features(cache: Cache, teacher: Source, encoder: Source, keys: pa.Array | None = None) -> pa.Table:
    """Return the stored pictures, or those among `keys`, that have no feature: image_key, image_sha256 and `path`.

    Only features that were computed from a key's canonical picture count.
    """
    images = cache.images(teacher, ["path"])
    missing = ~has_feature(cache, teacher, encoder, images)
    if keys is not None:
        missing &= pc.is_in(images["image_key"], keys).to_numpy()
    return images.filter(pa.array(missing))


def has_feature(cache: Cache, teacher: Source, encoder: Source, images: pa.Table) -> np.ndarray:
    """Return which rows of an index, unique by key, have a feature of their picture in the cache: (N,) bool."""
    features = cache.feature_keys(teacher, encoder)
    features = features.set_column(0, "place", pc.index_in(features["image_key"], images["image_key"]))
    digests = one_array(images["image_sha256"])
    found = np.zeros(images.num_rows, bool)
    for batch in features.to_batches():
        same = pc.equal(pc.take(digests, batch["place"]), batch["image_sha256"])
        found[batch["place"].filter(same).to_numpy()] = True
    return found


def requests_of(wanted: pa.Table) -> Iterator[Wanted]:
    """Yield the rows of `Plan.wanted` one by one."""
    for batch in wanted.to_batches(max_chunksize=1024):
        for row in batch.to_pylist():
            key = row["image_key"]
            yield Wanted(Request(key, row["prompt"], row["sample"], seed_of(key)), row["prompt_key"], row["attempts"])


def expected_seconds(cache: Cache, teacher: Source, encoder: Source, plan: Plan) -> float | None:
    """Return how many seconds the plan's calls and encodings take at the rates measured on this host; None if the
    rate of one of them has not been measured yet."""
    with open_existing_spool(cache) as spool:
        if spool is None:
            return None
        call = spool.seconds_per_row(f"teacher {teacher.name}")
        encoding = spool.seconds_per_row(f"encoder {encoder.name}")
    calls, features = plan.wanted.num_rows, len(plan.keys) - plan.features_at_hand
    if (calls and call is None) or (features and encoding is None):
        return None
    return float(calls * (call or 0.0) + features * (encoding or 0.0))
