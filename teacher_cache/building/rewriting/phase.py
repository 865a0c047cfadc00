"""The phase of a build that rewrites texts: before the first picture is drawn, each text that lacks its prompt is asked
once, under the same rules as pictures, and what came is committed.

No more texts are rewritten than the budget can draw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from teacher_cache.building.drawing import Drawing
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.plan import Plan, make_plan
from teacher_cache.building.requests import Requests
from teacher_cache.building.rewriting.asking import TEXTS, RewriterAsTeacher
from teacher_cache.building.rewriting.background import RewriteSealer
from teacher_cache.building.rewriting.drawn import DrawnPrompts
from teacher_cache.building.spool_opening import sources_of, total_spent
from teacher_cache.errors import ArmadaError
from teacher_cache.format.columns import FAILURE_COLUMNS
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.rewriting import Rewriter
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.writing import commit_failures
from teacher_cache.teachers import Teacher, source_of_rewriter


@dataclass(frozen=True)
class RewritingDone:
    """How many texts were rewritten, and why rewriting stopped before the last one: "", "budget" or "interrupted"."""

    rewritten: int = 0
    stopped: str = ""


def with_rewritten_texts(
    cache: Cache,
    spool: Spool,
    teacher: Teacher,
    sources: tuple[Source, Source],
    plan: Plan,
    requests: Requests,
    prompts: DrawnPrompts,
    planned: int,
    options: BuildOptions,
    provenance: Provenance,
    stop: Callable[[], bool],
    clock: Callable[[], float],
) -> tuple[Plan, int, RewritingDone]:
    """Rewrite what a plan lacks, let `prompts` find it, and commit as failed what can't be drawn for want of a text.

    Return the plan of what can be drawn, the spool's last seal before it was made, and what was rewritten.
    """
    done = RewritingDone()
    if plan.rewrites:
        prompts.load(cache)  # a damaged row is found before a call is paid for
        done = rewrite_texts(cache, spool, teacher, sources[0], plan, planned, options, provenance, stop, clock)
        planned = spool.last_seal()
        cache.refresh()
        plan = make_plan(cache, *sources, requests, retry=options.retry, retry_rewrites=())
    if plan.texts:
        record_failed_texts(cache, spool, sources[0], plan, provenance)
        plan = plan.ready()
        prompts.load(cache)
    return plan, planned, done


def rewrite_texts(
    cache: Cache,
    spool: Spool,
    teacher: Teacher,
    teacher_source: Source,
    plan: Plan,
    planned: int,
    options: BuildOptions,
    provenance: Provenance,
    stop: Callable[[], bool],
    clock: Callable[[], float],
) -> RewritingDone:
    """Rewrite the texts that a plan lacks, as far as the budget can draw them, and commit what came.

    `planned` is the spool's last seal before the plan was made. Raises what `Drawing.run` raises.
    """
    texts = plan.texts
    if texts is None or not plan.rewrites:
        return RewritingDone()
    rewriter: Rewriter = teacher.rewriter  # type: ignore[attr-defined]
    opened = RewriterAsTeacher(rewriter, texts)
    source = source_of_rewriter(rewriter)
    wanted = texts.wanted.copy()
    most = _affordable(cache, spool, teacher_source, plan, options, (teacher.price_usd, opened.price_usd))
    wanted[np.flatnonzero(wanted)[most:]] = False
    rewriting = Plan(texts.requests, int(texts.at_hand.sum()), 0, {}, wanted, texts.attempts)
    with RewriteSealer(cache, spool, teacher_source, source, options, provenance) as sealer:
        shared = (teacher_source.digest,)
        drawing = Drawing(spool, opened, source, options, sealer, stop, clock, shared=shared, kind=TEXTS)
        if wanted.any():
            drawing.run(rewriting, planned)
    sealer.finish()
    is_short = int(wanted.sum()) < plan.rewrites
    return RewritingDone(drawing.drawn, drawing.stopped or ("budget" if is_short else ""))


def check_prices(teacher: Teacher) -> None:
    """Raise ArmadaError, for a budget in dollars, if the price of a picture or of a text is not known."""
    rewriter = getattr(teacher, "rewriter", None)
    for noun, one in (("teacher", teacher), ("rewriter", rewriter)):
        if one is not None and one.price_usd is None:
            option = "" if noun == "teacher" else ", or state it by price= or prices= in the spec of --rewrite"
            raise ArmadaError(
                f"--budget-usd: this {noun} has no known price; cap the calls by --max-calls instead{option}"
            )


def _affordable(
    cache: Cache,
    spool: Spool,
    teacher: Source,
    plan: Plan,
    options: BuildOptions,
    prices: tuple[float | None, float | None],
) -> int:
    """Return how many texts may be rewritten so that the budget still draws their pictures, and first those whose texts
    are rewritten already. `prices` are those of a picture and of a text."""
    assert plan.texts is not None
    calls, usd = total_spent(cache, spool, *sources_of(teacher))
    ready = plan.ready().calls
    each = (plan.calls - ready) / max(1, plan.rewrites)  # pictures per text
    most = float(plan.rewrites)
    if options.max_calls is not None:
        most = min(most, (options.max_calls - calls - ready) / (1 + each))
    if options.budget_usd is not None and (price := (prices[1] or 0.0) + each * (prices[0] or 0.0)):
        most = min(most, (options.budget_usd + 1e-9 - usd - ready * (prices[0] or 0.0)) / price)
    return max(0, int(most))


def record_failed_texts(cache: Cache, spool: Spool, teacher: Source, plan: Plan, provenance: Provenance) -> None:
    """Commit that pictures failed because their texts did, unless the cache says so already."""
    if plan.texts is None:
        return
    failures = cache.failures(teacher)
    known = dict(zip(failures["image_key"].to_pylist(), failures["attempts"].to_pylist(), strict=True))
    failed = [(place, failure) for place, failure in plan.texts.failed_requests() if not failure.is_mended]
    rows = plan.requests.rows_at(np.array([place for place, _ in failed], np.int64))
    new = [
        row
        | {"reason": failure.reason, "message": f"rewriting: {failure.message}", "attempts": failure.attempts}
        | {"cost_usd": 0.0}
        for row, (_, failure) in zip(rows, failed, strict=True)
        if known.get(row["image_key"], -1) < failure.attempts
    ]
    if new:
        table = pa.Table.from_pylist(new, schema=FAILURE_COLUMNS)
        commit_failures(cache, teacher, table, provenance, spent=spool.statement())
