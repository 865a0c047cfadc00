"""The build: request each missing picture once, seal the pictures into shards, encode those without a feature.

A repeated build does nothing twice, and a killed build continues where it stopped: pictures are durable in the spool as
soon as they arrive, and those that an earlier build left there are sealed before the plan is made.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from teacher_cache.batches.teacher import OpenAIBatch
from teacher_cache.building.background import Background
from teacher_cache.building.batches.drawing import BatchDrawing
from teacher_cache.building.completeness import require_complete, require_pictures, require_teacher
from teacher_cache.building.drawing import Drawing
from teacher_cache.building.encoding import Encoded
from teacher_cache.building.options import BuildOptions, BuildReport
from teacher_cache.building.plan import Plan, batched_in, make_plan
from teacher_cache.building.requests import Requests, make_requests
from teacher_cache.building.rewriting.drawn import DrawnPrompts
from teacher_cache.building.rewriting.phase import RewritingDone, check_prices, with_rewritten_texts
from teacher_cache.building.spool_opening import (
    build_folders,
    open_spool,
    prepare,
    settle,
    sources_of,
    total_spent,
    workspace_of,
)
from teacher_cache.encoders import Encoder, source_of_encoder
from teacher_cache.errors import ArmadaError, CacheError, not_one_of
from teacher_cache.files.rights import check_writable
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.recipes import recipe_of
from teacher_cache.format.sources import Source
from teacher_cache.spool.run_log import Run, RunLog, counter
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import write_card
from teacher_cache.storage.samples import FORMATS
from teacher_cache.teachers import Teacher, source_of_teacher


def build(
    cache: Cache,
    prompts: Iterable[str],
    teacher: Teacher,
    encoder: Encoder,
    options: BuildOptions = BuildOptions(),
    *,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.time,
) -> BuildReport:
    """Draw and encode the pictures of prompts that the cache lacks.

    Args:
        cache: The cache to fill.
        prompts: One per row of the input; duplicates are requested once.
        teacher: Draws the missing pictures.
        encoder: Computes the missing features.
        options: What to build, and the caps on calls and cost.
        stop: Called before each call. When it returns True, calls in flight are finished and sealed; the same build
            continues later from there.
        clock: Seconds since 1970, for timestamps and for `BuildOptions.seal_seconds`.

    Raises ArmadaError if an option is invalid or contradicts the teacher, or if the teacher stops the build.
    """
    requests = make_requests(source_of_teacher(teacher), prompts, options.samples, options.limit)
    return build_requests(cache, requests, teacher, encoder, options, stop=stop, clock=clock)


def build_requests(
    cache: Cache,
    requests: Requests,
    teacher: Teacher,
    encoder: Encoder,
    options: BuildOptions,
    *,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.time,
) -> BuildReport:
    """Build requested pictures; see `build`."""
    started, provenance = clock(), Provenance(clock, options.prompts)
    (teacher_source, encoder_source), requests, prompts = begin(cache, requests, teacher, encoder, options, provenance)
    with open_spool(cache) as spool:
        planned = prepare(cache, spool, teacher, teacher_source, encoder_source, options, provenance)
        plan = make_plan(cache, teacher_source, encoder_source, requests, retry=options.retry)
        require_pictures(cache, teacher_source, encoder_source, requests.index)
        if plan.calls or plan.features_at_hand < len(requests):
            check_writable(cache.store, build_folders(teacher_source, encoder_source))
        rewriting = RewritingDone()
        try:
            if prompts:
                sources = teacher_source, encoder_source
                facts = requests, prompts, planned, options, provenance, stop, clock
                plan, planned, rewriting = with_rewritten_texts(cache, spool, teacher, sources, plan, *facts)
            with (
                run_log(cache, spool, plan, (teacher_source, encoder_source), options, clock) as log,
                Background(cache, spool, teacher_source, encoder, options, provenance, stop) as background,
            ):
                drawing = _drawing(spool, teacher, teacher_source, options, background, stop, clock)
                if plan.calls or isinstance(drawing, BatchDrawing):
                    with log.drawing(counter(drawing)):
                        drawing.run(plan, planned)
                encoded = background.finish(requests.index)
                log.stopped = drawing.stopped or ("interrupted" if stop() else "")
        finally:
            with contextlib.suppress(CacheError):  # without room or rights, the next build does it
                settle(cache, spool, provenance)
        spool.add_rate(f"encoder {encoder_source.name}", encoded.written + encoded.refused, encoded.seconds)
        own = spool.spent_by_this_build()
        total = total_spent(cache, spool, *sources_of(teacher_source))
        in_batches = batched_in(spool, teacher_source, requests)
    report = _report(
        plan,
        drawing,
        encoded,
        own=own,
        total=total,
        seconds=clock() - started,
        stopped=drawing.stopped or rewriting.stopped or ("interrupted" if stop() else ""),
        in_batches=in_batches,
        rewritten=rewriting.rewritten if plan.texts else None,
    )
    finish(cache, report)
    return report


def begin(
    cache: Cache,
    requests: Requests,
    teacher: Teacher,
    encoder: Encoder,
    options: BuildOptions,
    provenance: Provenance,
) -> tuple[tuple[Source, Source], Requests, DrawnPrompts | None]:
    """Check what every build needs, however it draws, and remove what dead writers left. Return the sources of teacher
    and encoder, the requests, and the prompts that are drawn instead of the texts, if the teacher has a recipe."""
    if options.budget_usd is not None:
        check_prices(teacher)
    if options.format not in FORMATS:
        raise ArmadaError(f"--format: {not_one_of(FORMATS, options.format)}")
    sources = source_of_teacher(teacher), source_of_encoder(encoder)
    prompts = DrawnPrompts(recipe) if (recipe := recipe_of(sources[0])) else None
    require_complete(cache, options.redraw_missing, provenance)
    require_teacher(cache, sources[0])
    cache.store.sweep()
    return sources, replace(requests, drawn=prompts) if prompts else requests, prompts


def finish(cache: Cache, report: BuildReport) -> None:
    """Write what every build leaves beside its commits: the cache's card, and a checkpoint."""
    if report.drawn or report.encoded or report.calls:
        write_card(cache)
    with contextlib.suppress(CacheError):  # it is derived, and a cache with nothing to add may be read-only
        cache.log.write_checkpoint()


def run_log(
    cache: Cache,
    spool: Spool,
    plan: Plan,
    sources: tuple[Source, Source],
    options: BuildOptions,
    clock: Callable[[], float],
) -> RunLog:
    """Return the log of this build, for those who watch it."""
    workspace = workspace_of(cache)
    assert workspace, "the spool is open"
    run = Run(
        build=spool.locks.owner,
        teacher=sources[0].name,
        encoder=sources[1].name,
        prompts=options.prompts,
        started=clock(),
        requested=len(plan.requests),
        at_hand=plan.pictures_at_hand,
        planned=plan.calls,
        max_calls=options.max_calls,
        budget_usd=options.budget_usd,
    )
    return RunLog(workspace.folder, run, clock)


def _drawing(
    spool: Spool,
    teacher: Teacher,
    source: Source,
    options: BuildOptions,
    background: Background,
    stop: Callable[[], bool],
    clock: Callable[[], float],
) -> Drawing | BatchDrawing:
    shared = tuple(other.digest for other in sources_of(source)[1:])
    if isinstance(teacher, OpenAIBatch):
        return BatchDrawing(spool, teacher, source, options, background, stop, clock, shared=shared)
    return Drawing(spool, teacher, source, options, background, stop, clock, shared=shared)


def _report(
    plan: Plan,
    drawing: Drawing | BatchDrawing,
    encoded: Encoded,
    *,
    own: tuple[int, float],
    total: tuple[int, float],
    seconds: float,
    stopped: str,
    in_batches: int,
    rewritten: int | None,
) -> BuildReport:
    """Return the report of a build; `own` are its own calls and cost, `total` those of all builds of the cache."""
    return BuildReport(
        rows=plan.requests.rows,
        unique_prompts=plan.requests.unique_prompts,
        pictures_at_hand=plan.pictures_at_hand,
        features_at_hand=plan.features_at_hand,
        calls=own[0],
        drawn=drawing.drawn,
        failed={
            reason: plan.failed.get(reason, 0) + drawing.failed.get(reason, 0)
            for reason in sorted({*plan.failed, *drawing.failed})
        },
        encoded=encoded.written,
        features_refused=encoded.refused,
        cost_usd=own[1],
        calls_total=total[0],
        cost_usd_total=total[1],
        seconds=seconds,
        stopped=stopped or ("batches" if in_batches else ""),
        in_batches=in_batches,
        rewritten=rewritten,
    )
