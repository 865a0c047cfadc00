"""The facts of a build, gathered when it has ended, however it ended: from the cache, from this host's ledger and from
its log of runs, so that they are right for a night of several runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.night.hours import Hours, hours_of
from pipelines.night.next_steps import NextStep, next_steps
from pipelines.night.pictures import NightPictures, look_at_pictures
from pipelines.night.reasons import Reasons, group_failures
from pipelines.night.redaction import clean
from teacher_cache import (
    BuildReport,
    Cache,
    Encoder,
    Requests,
    Run,
    Source,
    Teacher,
    host_name,
    list_shards,
    make_plan,
    source_of_encoder,
    source_of_teacher,
    view_spool,
)

_MANY, _SHARE = 200_000, 100  # pictures in a cache, and of how many a run must have added one for a look at them


@dataclass(frozen=True)
class Night:
    """What is known after a build. Pictures are counted among the requested ones; calls and dollars of `run` are this
    build's, those of the cache are of all builds of all hosts, as far as their commits are here."""

    cache: str
    teacher: Source
    encoder: Source
    prompts: str
    outcome: str  # "finished", "budget", "batches" (they are at the provider), "interrupted" or "error"
    error: str
    error_code: int  # with which the command ends if there is an error
    folder: str  # in which the command ran
    ended: float  # seconds since 1970
    host: str
    requested: int
    pictures: int
    features: int
    reasons: Reasons
    in_batches: int  # requested pictures that a provider's batches have not brought yet; they are reserved
    drawn: int  # in this run
    encoded: int
    features_refused: int
    calls: int
    cost_usd: float | None  # None if no price is known
    seconds: float
    calls_total: int
    cost_usd_total: float | None
    price_usd: float | None  # of one more picture
    runs: tuple[Run, ...]  # of this teacher on this host, the first one first
    hours: Hours
    look: NightPictures
    steps: tuple[NextStep, ...] = ()

    @property
    def missing(self) -> int:
        """The requested pictures that are neither there nor refused: a later run draws them."""
        return max(0, self.requested - self.pictures - self.reasons.rows)

    @property
    def to_draw(self) -> int:
        """The missing pictures that are in no batch yet."""
        return max(0, self.missing - self.in_batches)

    @property
    def usd_per_picture(self) -> float | None:
        """What a picture cost in all builds of the cache; the price of the next one if none was paid for yet."""
        calls, usd = self.calls_total, self.cost_usd_total
        return usd / calls if usd and calls else self.price_usd


def gather(
    cache: Cache,
    requests: Requests,
    teacher: Teacher,
    encoder: Encoder,
    report: BuildReport | None,
    *,
    prompts: str,
    words: Sequence[str],
    started: float,
    error: str = "",
    error_code: int = 2,
    looks: bool = True,
) -> Night:
    """Return the facts after a build.

    Args:
        cache: The cache, as it is now.
        requests: What was requested.
        teacher: The teacher that drew.
        encoder: The encoder.
        report: The build's report; None if it ended with an error.
        prompts: Where the prompts came from.
        words: The command line after `armada`, for what to do next.
        started: When the build began, in seconds since 1970.
        error: The message of that error.
        error_code: Its exit code.
        looks: Whether to look at the pictures: to choose some, and to compare all of them.

    Raise ArmadaError if the cache can't be read.
    """
    teacher_source, encoder_source = source_of_teacher(teacher), source_of_encoder(encoder)
    listing = list_shards(cache)
    plan = make_plan(cache, teacher_source, encoder_source, requests)
    view = view_spool(cache)
    runs = tuple(run for run in view.runs if run.teacher == teacher_source.name)
    mine = next((run for run in reversed(runs) if run.started >= started - 1), None)
    calls, usd = cache.spent(teacher_source.digest, without=view.token)
    own_calls, own_usd = view.spent.get(teacher_source.digest, (0, 0.0))
    has_price = teacher.price_usd is not None or usd + own_usd > 0
    drawn = report.drawn if report else mine.drawn if mine else 0
    stored = sum(shard.rows for shard in listing.below(f"images/{teacher_source.name}/"))
    note = _why_not_look(report, looks=looks, new=drawn + (report.encoded if report else 0), stored=stored)
    names = {run.build for run in runs}
    ended = time.time()
    night = Night(
        cache=str(cache.store),
        teacher=teacher_source,
        encoder=encoder_source,
        prompts=prompts,
        outcome="error" if report is None else report.stopped or "finished",
        error=clean(error),
        error_code=error_code,
        folder=os.getcwd(),
        ended=ended,
        host=host_name(),
        requested=len(requests),
        pictures=plan.pictures_at_hand,
        features=plan.features_at_hand,
        reasons=_reasons(cache, teacher_source, requests) if plan.failed else Reasons(),
        in_batches=int(getattr(report, "in_batches", 0)),
        drawn=drawn,
        encoded=report.encoded if report else 0,
        features_refused=report.features_refused if report else 0,
        calls=report.calls if report else mine.calls if mine else 0,
        cost_usd=(report.cost_usd if report else mine.cost_usd if mine else 0.0) if has_price else None,
        seconds=report.seconds if report else ended - started,
        calls_total=calls + own_calls,
        cost_usd_total=round(usd + own_usd, 9) if has_price else None,
        price_usd=teacher.price_usd,
        runs=runs,
        hours=hours_of([one for one in view.minutes if one.build in names]),
        look=NightPictures(alike_note=note)
        if note
        else look_at_pictures(cache, listing, teacher_source, encoder_source, requests),
    )
    return replace(night, steps=next_steps(night, words))


def has_begun(cache: Cache, started: float) -> bool:
    """Return whether a build of this host has begun to work on a cache since then (seconds since 1970). What ends it
    before needs no page: a wrong option, an incomplete cache."""
    return any(run.started >= started for run in view_spool(cache).runs)


def _why_not_look(report: BuildReport | None, *, looks: bool, new: int, stored: int) -> str:
    """Return why the pictures are not looked at: it would take longer than what it follows. "" if they are."""
    if not looks:
        return "there is no page"
    if report and report.stopped == "interrupted":
        return "the build was interrupted"
    if report and not report.calls and not report.encoded:
        return "this run drew and encoded nothing"
    if stored > _MANY and new * _SHARE < stored:
        return f"this run added few to {stored:,} pictures; a run that adds one in {_SHARE} compares them"
    return ""


def _reasons(cache: Cache, teacher: Source, requests: Requests) -> Reasons:
    """Return why requested pictures are missing."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    table = cache.failures(teacher).select(["image_key", "reason", "message", "prompt"])
    keys = np.frombuffer(bytes.fromhex("".join(table["image_key"].to_pylist())), np.uint8).reshape(-1, 32)
    table = table.filter(pa.array(requests.index.find(keys) >= 0))
    drawn = cache.images(teacher, ["image_key"])["image_key"] if table.num_rows else pa.chunked_array([], pa.string())
    table = table.filter(pc.invert(pc.is_in(table["image_key"], drawn.combine_chunks())))
    rows = (
        (reason or "unknown", message or "", prompt or "")
        for batch in table.to_batches(max_chunksize=4096)
        for _, reason, message, prompt in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )
    return group_failures(rows)


def exit_code(night: Night) -> int:
    """Return the exit code with which the build's command ends."""
    if night.outcome == "error":
        return night.error_code
    outcome = "batches" if night.in_batches and night.outcome != "interrupted" else night.outcome
    return exit_code_of(outcome, bool(night.reasons.rows or night.features_refused))


def exit_code_of(outcome: str, is_incomplete: bool) -> int:
    """Return the exit code of a build's outcome; a finished one may be incomplete."""
    if outcome == "finished":
        return 3 if is_incomplete else 0
    return {"interrupted": 130, "budget": 4, "batches": 5}.get(outcome, 2)


def local_time(seconds: float, form: str = "%a %d %b %H:%M") -> str:
    """Return a time of this host's clock, in its time zone."""
    return time.strftime(form, time.localtime(seconds))


def time_zone() -> str:
    """Return the name of this host's time zone with its distance from UTC."""
    offset = time.strftime("%z")
    return f"{os.environ.get('TZ') or time.strftime('%Z')} (UTC{offset[:3]}:{offset[3:]})"
