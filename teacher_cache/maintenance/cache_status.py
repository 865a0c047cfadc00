"""The status of a cache in numbers: pictures, features, failures by reason, calls, cost and size.

Computing it adds nothing to the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.batches.tables import requests_by_status
from teacher_cache.building.plan import missing_features
from teacher_cache.building.spool_opening import open_existing_spool, total_spent, unsealed
from teacher_cache.format.arrow import concat, counts
from teacher_cache.format.digests import from_column, from_hex, index_digests
from teacher_cache.format.sources import Source, spec_to_type
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import canonical_pictures

_SECONDS = pa.schema([("seconds", pa.float64())])


@dataclass(frozen=True)
class EncoderStatus:
    """The features of one teacher's pictures by one encoder. `per_second` is the rate measured on this host, and
    `options` are the words that name both to a command: what their user typed, which nothing here opens."""

    name: str
    options: str
    spec: dict[str, Any]
    features: int
    pictures_without_feature: int
    per_second: float | None
    bytes: int


@dataclass(frozen=True)
class TeacherStatus:
    """The pictures of one teacher in the whole cache, and the calls and their cost, of all hosts.

    What other hosts have not committed yet is not included. `in_spool` counts the pictures and failures that this host
    has not sealed yet, `in_flight` its calls without an answer (of a running build, or of a killed one), and
    `in_batches` the pictures that are in a provider's batches, by the provider's status, for which `reserved_usd` is
    set aside on top of `cost_usd`. `per_second` is the rate measured on this host, and `seconds_per_picture` the mean
    duration of a call.
    """

    name: str
    spec: dict[str, Any]
    pictures: int
    failures: dict[str, int]
    in_spool: int
    in_flight: int
    in_batches: dict[str, int]
    reserved_usd: float
    calls: int
    cost_usd: float
    per_second: float | None
    seconds_per_picture: float | None
    bytes: int
    encoders: list[EncoderStatus]


def status(cache: Cache) -> list[TeacherStatus]:
    """Return the status of a cache, one entry per teacher."""
    cache.refresh()
    waiting = unsealed(cache)
    with open_existing_spool(cache) as spool:
        return [_teacher_status(cache, spool, teacher, waiting.get(teacher.digest, 0)) for teacher in cache.teachers()]


def _teacher_status(cache: Cache, spool: Spool | None, teacher: Source, in_spool: int) -> TeacherStatus:
    pictures = canonical_pictures(cache, teacher)
    tables = [table for _, table in cache.tables(f"images/{teacher.name}/", ["seconds"])]
    failures = cache.failures(teacher)
    failed = index_digests(from_column(pictures["image_key"])).find(from_hex(failures["image_key"], "failures")) < 0
    failures = failures.filter(pa.array(failed))
    calls, cost = total_spent(cache, spool, teacher)
    encoders = cache.encoders(teacher)
    return TeacherStatus(
        name=teacher.name,
        spec=dict(teacher.spec),
        pictures=pictures.num_rows,
        failures=counts(failures["reason"]),
        in_spool=in_spool,
        in_flight=spool.count(teacher.digest, "claimed") - spool.reserved(teacher.digest)[0] if spool else 0,
        in_batches=requests_by_status(spool, teacher.digest) if spool else {},
        reserved_usd=spool.reserved(teacher.digest)[1] if spool else 0.0,
        calls=calls,
        cost_usd=cost,
        per_second=_rate(spool, f"teacher {teacher.name}"),
        seconds_per_picture=pc.mean(concat(tables, _SECONDS)["seconds"]).as_py(),
        bytes=_bytes(cache, f"images/{teacher.name}/shards/"),
        encoders=[_encoder_status(cache, spool, teacher, encoder, pictures.num_rows) for encoder in encoders],
    )


def _encoder_status(
    cache: Cache, spool: Spool | None, teacher: Source, encoder: Source, pictures: int
) -> EncoderStatus:
    without = missing_features(cache, teacher, encoder).num_rows
    return EncoderStatus(
        name=encoder.name,
        options=f"--teacher {spec_to_type(teacher)} --encoder {spec_to_type(encoder)}",
        spec=dict(encoder.spec),
        features=pictures - without,
        pictures_without_feature=without,
        per_second=_rate(spool, f"encoder {encoder.name}"),
        bytes=_bytes(cache, f"features/{teacher.name}/{encoder.name}/shards/"),
    )


def _rate(spool: Spool | None, name: str) -> float | None:
    seconds = spool.seconds_per_row(name) if spool else None
    return 1 / seconds if seconds else None


def _bytes(cache: Cache, folder: str) -> int:
    return sum(shard.bytes for shard in cache.shards(folder))
