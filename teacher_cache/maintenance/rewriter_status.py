"""The status of a cache's rewriters in numbers, as `cache_status` gives it of its teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from teacher_cache.building.spool_opening import open_existing_spool, total_spent, unsealed
from teacher_cache.format.arrow import counts
from teacher_cache.format.digests import from_hex
from teacher_cache.format.recipes import rewriter_of
from teacher_cache.format.sources import Source
from teacher_cache.rewriting.rows import rewrite_index, rewriters, shards_folder
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache


@dataclass(frozen=True)
class RewriterStatus:
    """The texts that one rewriter has rewritten, and the calls and their cost, of all hosts; see `TeacherStatus`.

    `failures` counts the texts without a prompt by the reason, and `teachers` are the names of those that draw what it
    writes.
    """

    name: str
    spec: dict[str, Any]
    texts: int
    failures: dict[str, int]
    in_spool: int
    in_flight: int
    calls: int
    cost_usd: float
    per_second: float | None
    bytes: int
    teachers: list[str]


def rewriter_status(cache: Cache) -> list[RewriterStatus]:
    """Return the status of a cache's rewriters, one entry per rewriter."""
    cache.refresh()
    waiting = unsealed(cache)
    users: dict[str, list[str]] = {}
    for teacher in cache.teachers():
        if rewriter := rewriter_of(teacher):
            users.setdefault(rewriter.digest, []).append(teacher.name)
    with open_existing_spool(cache) as spool:
        return [
            _status(cache, spool, rewriter, waiting.get(rewriter.digest, 0), users.get(rewriter.digest, []))
            for rewriter in rewriters(cache)
        ]


def _status(cache: Cache, spool: Spool | None, rewriter: Source, in_spool: int, teachers: list[str]) -> RewriterStatus:
    rewritten = rewrite_index(cache, rewriter)
    failures = cache.failures(rewriter)
    failed = rewritten.find(from_hex(failures["image_key"], "failures")) < 0
    calls, cost = total_spent(cache, spool, rewriter)
    seconds = spool.seconds_per_row(f"rewriter {rewriter.name}") if spool else None
    return RewriterStatus(
        name=rewriter.name,
        spec=dict(rewriter.spec),
        texts=len({digest.tobytes() for digest in rewritten.digests}),
        failures=counts(failures.filter(pa.array(failed))["reason"]),
        in_spool=in_spool,
        in_flight=spool.count(rewriter.digest, "claimed") if spool else 0,
        calls=calls,
        cost_usd=cost,
        per_second=1 / seconds if seconds else None,
        bytes=sum(shard.bytes for shard in cache.shards(shards_folder(rewriter))),
        teachers=teachers,
    )
