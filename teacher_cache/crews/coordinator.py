"""A build by several workers: what all of them need is checked and prepared once, and one report tells of all."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from teacher_cache.building.builder import begin, finish, run_log
from teacher_cache.building.completeness import require_pictures
from teacher_cache.building.options import BuildOptions, BuildReport
from teacher_cache.building.plan import make_plan
from teacher_cache.building.requests import Requests
from teacher_cache.building.rewriting.phase import RewritingDone, with_rewritten_texts
from teacher_cache.building.same_pictures import redraw_notes
from teacher_cache.building.spool_opening import build_folders, open_spool, prepare, settle, sources_of, total_spent
from teacher_cache.crews.allowances import Allowances
from teacher_cache.crews.coordination import Coordination
from teacher_cache.crews.crew import Crew
from teacher_cache.crews.messages import Setup
from teacher_cache.crews.team import Team
from teacher_cache.encoders import Encoder
from teacher_cache.errors import CacheError
from teacher_cache.files.rights import check_writable
from teacher_cache.format.provenance import Provenance
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.samples import samples_folder, write_missing_samples
from teacher_cache.teachers import Teacher


def build_by_workers(
    cache: Cache,
    requests: Requests,
    teacher: Teacher,
    encoder: Encoder,
    options: BuildOptions,
    crew: Crew,
    *,
    specs: tuple[str, str],
    concurrency: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.time,
) -> BuildReport:
    """Build requested pictures by several workers; see `build_requests`, whose report is returned for all together.

    Args:
        cache: The cache to fill.
        requests: The pictures.
        teacher: As the workers open it from `specs[0]`; nothing is drawn by this one.
        encoder: As the workers open it from `specs[1]`; nothing is encoded by this one.
        options: What to build, and the caps on the calls and the cost of all workers together.
        crew: Starts the workers.
        specs: The specs of the teacher and the encoder, as the user typed them.
        concurrency: Requests in flight per worker; None: as the teacher has it.
        stop: Called all the time; when it returns True, calls in flight are finished and sealed.
        clock: Seconds since 1970, for timestamps.

    Raises ArmadaError as `build_requests` does, and if workers die one after the other.
    """
    started, provenance = clock(), Provenance(clock, options.prompts)
    sources, requests, prompts = begin(cache, requests, teacher, encoder, options, provenance)
    url = os.path.abspath(cache.store.url) if cache.store.is_local else cache.store.url
    setup = Setup(url, *specs, sources[0].digest, sources[1].digest, options, concurrency, workers=crew.size)
    with crew, _opened(crew, setup, cache) as spool:
        planned = prepare(cache, spool, teacher, *sources, options, provenance)
        before = total_spent(cache, spool, *sources_of(sources[0]))
        plan = make_plan(cache, *sources, requests)
        require_pictures(cache, *sources, requests.index)
        if plan.calls or plan.features_at_hand < len(requests):
            check_writable(cache.store, build_folders(*sources))
        rewriting = RewritingDone()
        if prompts:  # this process rewrites the texts, and the workers draw
            facts = requests, prompts, planned, options, provenance, stop, clock
            try:
                plan, planned, rewriting = with_rewritten_texts(cache, spool, teacher, sources, plan, *facts)
            finally:
                with contextlib.suppress(CacheError):
                    settle(cache, spool, provenance)
        if crew.shares_spool:
            setup = replace(setup, planned=planned)
            allowances = None
        else:
            setup = replace(setup, options=replace(options, max_calls=None, budget_usd=None))
            allowances = Allowances(options.max_calls, options.budget_usd, teacher.price_usd)
        left, stopped, refused = plan, "", 0
        if plan.calls or plan.features_at_hand < len(requests):
            for note in redraw_notes(cache, sources[0], plan):
                print(f"teacher {sources[0].spec.get('kind', '')}: {note}", file=sys.stderr)
            team = Team(crew, setup, allowances)
            in_flight = concurrency or int(getattr(teacher, "concurrency", 0))
            work = Coordination(
                cache, *sources, teacher.price_usd, in_flight, requests, options, team, allowances, stop
            )
            try:
                with run_log(cache, spool, plan, sources, options, clock) as log:
                    with log.drawing(team.counts):
                        work.draw(plan)
                        if work.stopped == "interrupted":  # the calls in flight count, too
                            team.wait()
                    if work.stopped != "interrupted":
                        out_of_budget, work.stopped = work.stopped, ""
                        work.encode()
                        work.stopped = work.stopped or out_of_budget
                    log.stopped = work.stopped
            finally:
                team.end(at_once=True)
                team.wait()
                with contextlib.suppress(CacheError):  # without room or rights, the next build does it
                    settle(cache, spool, provenance)
            team.raise_error()
            stopped, refused = work.stopped, work.refused
            cache.refresh()
            left = make_plan(cache, *sources, requests)
            if options.format == "webdataset" and stopped != "interrupted":
                write_missing_samples(cache, *sources, cache.store, samples_folder(*sources))
        total = total_spent(cache, spool, *sources_of(sources[0]))
    report = BuildReport(
        rows=plan.requests.rows,
        unique_prompts=plan.requests.unique_prompts,
        pictures_at_hand=plan.pictures_at_hand,
        features_at_hand=plan.features_at_hand,
        calls=total[0] - before[0],
        drawn=left.pictures_at_hand - plan.pictures_at_hand,
        failed=dict(sorted(left.failed.items())),
        encoded=left.features_at_hand - plan.features_at_hand,
        features_refused=refused,
        cost_usd=round(total[1] - before[1], 9),
        calls_total=total[0],
        cost_usd_total=total[1],
        seconds=clock() - started,
        stopped=stopped or rewriting.stopped or ("interrupted" if stop() else ""),
        rewritten=rewriting.rewritten if plan.texts else None,
    )
    finish(cache, report)
    return report


@contextlib.contextmanager
def _opened(crew: Crew, setup: Setup, cache: Cache) -> Iterator[Spool]:
    """Let the workers' machines commit what earlier builds left there, then open this host's spool."""
    crew.prepare(setup)
    with open_spool(cache) as spool:
        yield spool
