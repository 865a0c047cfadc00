"""The status of a cache in numbers: pictures, features, failures by reason, calls, cost and size.

Computing it adds nothing to the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from teacher_cache.building.plan import missing_features
from teacher_cache.building.spool import Spool
from teacher_cache.format.arrow import counts, one_array
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache import Cache


@dataclass(frozen=True)
class EncoderStatus:
    """The features of one teacher's pictures by one encoder. `per_second` is the rate measured on this machine."""

    name: str
    spec: dict[str, Any]
    features: int
    pictures_without_feature: int
    per_second: float | None
    bytes: int


@dataclass(frozen=True)
class TeacherStatus:
    """The pictures of one teacher in the whole cache, and the calls and their cost on this machine.

    `in_spool` counts the pictures that were drawn here and are not sealed yet, `in_flight` the calls without an answer
    (of a running build, or of a killed one). `per_second` is the rate measured on this machine, and
    `seconds_per_picture` the mean duration of a call.
    """

    name: str
    spec: dict[str, Any]
    pictures: int
    failures: dict[str, int]
    in_spool: int
    in_flight: int
    calls: int
    cost_usd: float
    per_second: float | None
    seconds_per_picture: float | None
    bytes: int
    encoders: list[EncoderStatus]


def status(cache: Cache) -> list[TeacherStatus]:
    """Return the status of a cache, one entry per teacher."""
    cache.refresh()
    with Spool(cache.machine_folder) as spool:
        return [_teacher_status(cache, spool, teacher) for teacher in cache.teachers()]


def _teacher_status(cache: Cache, spool: Spool, teacher: Source) -> TeacherStatus:
    images = cache.images(teacher, ["seconds"])
    failures = cache.failures(teacher)
    failures = failures.filter(pc.invert(pc.is_in(failures["image_key"], one_array(images["image_key"]))))
    calls, cost = spool.spent(teacher.digest)
    encoders = cache.encoders(teacher)
    return TeacherStatus(
        name=teacher.name,
        spec=dict(teacher.spec),
        pictures=images.num_rows,
        failures=counts(failures["reason"]),
        in_spool=spool.count(teacher.digest, "drawn"),
        in_flight=spool.count(teacher.digest, "claimed"),
        calls=calls,
        cost_usd=cost,
        per_second=_rate(spool, f"teacher {teacher.name}"),
        seconds_per_picture=pc.mean(images["seconds"]).as_py(),
        bytes=_bytes(cache, f"images/{teacher.name}/shards/"),
        encoders=[_encoder_status(cache, spool, teacher, encoder, images.num_rows) for encoder in encoders],
    )


def _encoder_status(cache: Cache, spool: Spool, teacher: Source, encoder: Source, pictures: int) -> EncoderStatus:
    without = missing_features(cache, teacher, encoder).num_rows
    return EncoderStatus(
        name=encoder.name,
        spec=dict(encoder.spec),
        features=pictures - without,
        pictures_without_feature=without,
        per_second=_rate(spool, f"encoder {encoder.name}"),
        bytes=_bytes(cache, f"features/{teacher.name}/{encoder.name}/shards/"),
    )


def _rate(spool: Spool, name: str) -> float | None:
    seconds = spool.seconds_per_row(name)
    return 1 / seconds if seconds else None


def _bytes(cache: Cache, folder: str) -> int:
    return sum(shard.bytes for shard in cache.shards(folder))
