"""The build: ask the teacher for what is missing, once; seal what it drew; encode what has no feature.

The same build again does nothing twice, a killed one goes on where it was: pictures are durable in the spool the moment
they arrive, and what an earlier build left there is sealed before anything is planned.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from teacher_cache.cache import Cache, Source, source_of
from teacher_cache.encode import encode_missing
from teacher_cache.encoders import Encoder
from teacher_cache.errors import ArmadaError
from teacher_cache.keys import sha256
from teacher_cache.plan import Plan, make_plan
from teacher_cache.progress_bar import progress
from teacher_cache.seal import seal, signature
from teacher_cache.spool import Budget, Spool, Wanted
from teacher_cache.teachers import REASONS, Failure, Picture, Request, Teacher


@dataclass(frozen=True)
class BuildOptions:
    """What to build and when to seal. Rows are pictures; `seal_seconds` bounds what another machine can't see yet."""

    samples: int = 1
    limit: int | None = None
    max_calls: int | None = None
    budget_usd: float | None = None
    shard_rows: int = 8192
    seal_rows: int = 2048
    seal_seconds: float = 600.0
    retry: Sequence[str] = ()


@dataclass(frozen=True)
class BuildReport:
    """What a build found and did. `calls` and `cost_usd` are this build's, the totals are this machine's so far."""

    rows: int
    unique_prompts: int
    pictures_at_hand: int
    features_at_hand: int
    calls: int
    drawn: int
    failed: Mapping[str, int]  # of all keys asked for, by reason, earlier failures included
    encoded: int
    features_refused: int
    cost_usd: float
    calls_total: int
    cost_usd_total: float
    seconds: float
    stopped: str  # "", "budget" or "interrupted"


@dataclass
class _Counts:
    drawn: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    stopped: str = ""


def build(
    cache: Cache,
    prompts: Sequence[str],
    teacher: Teacher,
    encoder: Encoder,
    options: BuildOptions = BuildOptions(),
    *,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.time,
) -> BuildReport:
    """Fill the cache for these prompts. `stop` is asked before each call; once it says yes, what is in flight is
    finished and sealed, and the same build later goes on from there.

    Raises ArmadaError where the options contradict the teacher.
    """
    if options.budget_usd is not None and teacher.price_usd is None:
        raise ArmadaError("--budget-usd: this teacher has no known price; cap the calls by --max-calls instead")
    started = clock()
    drawer = source_of(teacher.spec, licence=teacher.licence, price_usd=teacher.price_usd)
    reader = source_of(encoder.spec)
    cache.register(drawer, reader)
    counts = _Counts()
    with Spool(cache.machine_folder) as spool:
        for source in cache.teachers():
            seal(cache, spool, source, options.shard_rows, clock, again=True)
        planned = spool.last_seal()
        plan = make_plan(
            cache, drawer, reader, prompts, samples=options.samples, limit=options.limit, retry=options.retry
        )
        calls_before, cost_before = spool.spent(drawer.digest)
        if plan.wanted:
            _draw_missing(cache, spool, teacher, drawer, plan, options, planned, counts, stop, clock)
            seal(cache, spool, drawer, options.shard_rows, clock)
        encoded, refused = encode_missing(
            cache, drawer, encoder, plan.keys, shard_rows=options.shard_rows, signature=signature(clock), stop=stop
        )
        calls, cost = spool.spent(drawer.digest)
    failed = dict(plan.failed)
    for reason, number in counts.failed.items():
        failed[reason] = failed.get(reason, 0) + number
    return BuildReport(
        rows=plan.rows,
        unique_prompts=plan.unique_prompts,
        pictures_at_hand=plan.pictures_at_hand,
        features_at_hand=plan.features_at_hand,
        calls=calls - calls_before,
        drawn=counts.drawn,
        failed=failed,
        encoded=encoded,
        features_refused=refused,
        cost_usd=cost - cost_before,
        calls_total=calls,
        cost_usd_total=cost,
        seconds=clock() - started,
        stopped=counts.stopped or ("interrupted" if stop() else ""),
    )


def _draw_missing(
    cache: Cache,
    spool: Spool,
    teacher: Teacher,
    drawer: Source,
    plan: Plan,
    options: BuildOptions,
    planned: int,
    counts: _Counts,
    stop: Callable[[], bool],
    clock: Callable[[], float],
) -> None:
    budget = Budget(options.max_calls, options.budget_usd, teacher.price_usd)
    held: list[Wanted] = []
    sealed_at = clock()

    def requests(pending: Sequence[Wanted]) -> Iterator[Request]:
        for wanted in pending:
            if stop():
                counts.stopped = "interrupted"
            if counts.stopped:
                return
            verdict = spool.claim(drawer.digest, wanted, budget, planned)
            if verdict == "granted":
                yield wanted.request
            elif verdict == "spent":
                counts.stopped = "budget"
            elif verdict == "held":
                held.append(wanted)
            else:
                bar.update()

    with progress(len(plan.wanted), f"teacher {drawer.spec.get('kind', '')}", "picture") as bar:
        pending: Sequence[Wanted] = plan.wanted
        while pending and not counts.stopped:
            for answer in teacher.draw(requests(pending)):
                _record(spool, answer, counts)
                bar.update()
                full = spool.count(drawer.digest, "drawn") >= options.seal_rows
                if full or clock() - sealed_at >= options.seal_seconds:
                    seal(cache, spool, drawer, options.shard_rows, clock)
                    sealed_at = clock()
            pending, held = held, []
            if pending and not counts.stopped:
                time.sleep(0.2)  # another build of this machine is drawing these; if it dies, they are ours


def _record(spool: Spool, answer: Picture | Failure, counts: _Counts) -> None:
    if isinstance(answer, Picture):
        fault = picture_fault(answer.data)
        if not fault:
            spool.record(answer, sha256(answer.data))
            counts.drawn += 1
            return
        reason, message = fault
        answer = Failure(answer.image_key, reason, message, answer.cost_usd, answer.seconds)
    if answer.reason not in REASONS:
        raise ArmadaError(f"the teacher gave the reason {answer.reason!r}; expected one of {', '.join(REASONS)}")
    spool.record(answer)
    counts.failed[answer.reason] = counts.failed.get(answer.reason, 0) + 1


def picture_fault(data: bytes) -> tuple[str, str] | None:
    """A reason and message for bytes that are no picture, or one of a single colour; None for a sound picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return "undecodable", f"{len(data)} bytes that are no picture: {error}"
    if (pixels == pixels[0]).all():
        return "blank", f"every pixel has the colour {tuple(pixels[0].tolist())}"
    return None
