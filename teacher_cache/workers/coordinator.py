"""The coordinator: makes one plan, hands its rows out in small parts, and repeats until the cache has them.

The cache's commits are the only truth about what is done. When all workers are idle, and so all that they did is
committed, the plan is made again: what a killed worker left is in it, and what was paid for is not.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from teacher_cache.building.builder import BuildReport, build_folders, prepare
from teacher_cache.building.completeness import require_complete, require_pictures, require_teacher
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.plan import Plan, make_plan, missing_features
from teacher_cache.building.requests import Requests
from teacher_cache.building.same_pictures import redraw_notes
from teacher_cache.building.spool_opening import open_spool, settle, total_spent
from teacher_cache.encoders import Encoder, source_of_encoder
from teacher_cache.errors import ArmadaError, CacheError, not_one_of
from teacher_cache.files.rights import check_writable
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import write_card
from teacher_cache.storage.samples import FORMATS, samples_folder, write_missing_samples
from teacher_cache.teachers import Teacher, source_of_teacher
from teacher_cache.workers.allowances import Allowances
from teacher_cache.workers.crew import Crew
from teacher_cache.workers.messages import Draw, Encode, Setup
from teacher_cache.workers.parts import Parts, part_size, tar_parts
from teacher_cache.workers.team import Team

_ROUNDS = 3  # that bring nothing, before the build gives up
_TICK_S = 0.02
_LOOK_S = 15.0  # between two looks at what other hosts have spent


@dataclass
class _Coordination:
    """One build: the cache, what is built, and the workers."""

    cache: Cache
    teacher: Source
    encoder: Source
    price_usd: float | None
    concurrency: int
    requests: Requests
    options: BuildOptions
    team: Team
    allowances: Allowances | None  # None if the workers share the coordinator's spool, and so its budget
    stop: Callable[[], bool]
    stopped: str = ""
    refused: int = 0
    _looked: float = field(default_factory=time.monotonic)

    def draw(self, plan: Plan) -> Plan:
        """Have the plan's rows drawn, and return the plan that is left."""
        barren = 0
        if not plan.calls:
            return plan
        with progress(plan.calls, f"teacher {self.teacher.spec.get('kind', '')}", "picture") as bar:
            self.team.show("teacher ", bar.update)
            while plan.calls and not self.stopped:
                before = plan.calls
                self._draw_once(plan)
                plan = self._plan_again()
                barren = barren + 1 if plan.calls >= before else 0
                if barren == _ROUNDS and not self.stopped:
                    raise CacheError(
                        f"{self.cache.store}: {plan.calls} pictures are still missing, though the workers have worked "
                        f"on them {_ROUNDS} times; run the same command without --workers to see why"
                    )
            self.team.show("teacher ", None)
        return plan

    def _plan_again(self) -> Plan:
        self.cache.refresh()
        return make_plan(self.cache, self.teacher, self.encoder, self.requests)

    def _draw_once(self, plan: Plan) -> None:
        parts = Parts(plan.wanted_requests(), plan.calls)
        self._look_elsewhere()
        is_short = False  # of budget
        while True:
            self.team.look()
            if self.stop():
                self.stopped = "interrupted"
                self.team.end(at_once=True)
                return
            if self.allowances is None:
                is_short = any(member.report.stopped == "budget" for member in self.team.members)
            elif time.monotonic() - self._looked > _LOOK_S:
                self._look_elsewhere()
            if not is_short or self.allowances is not None:
                is_short = not self._hand_out(parts) and self.allowances is not None
            if self.team.is_idle() and (not parts.left or is_short):
                break
            time.sleep(_TICK_S)
        if is_short:
            self.stopped = "budget"

    def _hand_out(self, parts: Parts) -> bool:
        """Give rows to the workers that have few. Return whether the budget allowed it."""
        team = self.team
        for member in team.members:
            if not member.report.is_ready or not parts.left:
                continue
            size = part_size(parts.left, len(team.members), member.waiting, member.rows_per_s, self.concurrency)
            if not size:
                continue
            allowance = None
            if self.allowances:
                sharing = [one for one in team.members if one.report.ledger == member.report.ledger]
                waiting = sum(one.waiting for one in sharing)
                allowance = self.allowances.grant(member.name, member.sent + 1, size, waiting, len(team.members))
                if allowance is None:
                    return False
            member.send(Draw(parts.take(size), allowance, team.ledgers))
        return True

    def _look_elsewhere(self) -> None:
        """Read what all ledgers have committed as spent; those that no worker has count, too."""
        self._looked = time.monotonic()
        if self.allowances and self.allowances.is_limited:
            self.cache.refresh()
            records = [record for commit in self.cache.commits() for record in commit.spent]
            self.allowances.committed = [one for one in records if one.teacher == self.teacher.digest]

    def encode(self) -> None:
        """Have the stored pictures without a feature encoded, each tar by one worker."""
        for _ in range(_ROUNDS):
            self.cache.refresh()
            missing = missing_features(self.cache, self.teacher, self.encoder, self.requests.index)
            if not missing.num_rows or self.stopped:
                return
            size = min(self.options.shard_rows, -(-missing.num_rows // (4 * self.team.size)))
            parts = list(tar_parts(missing, size))[::-1]
            refused, deaths = self.team.refused(), self.team.deaths
            with progress(missing.num_rows, f"encoder {self.encoder.spec.get('kind', '')}", "picture") as bar:
                self.team.show("encoder ", bar.update)
                while parts or not self.team.is_idle():
                    self.team.look()
                    if self.stop():
                        self.stopped = "interrupted"
                        self.team.end(at_once=True)
                        return
                    for member in self.team.members:
                        if parts and member.is_idle:
                            member.send(Encode(parts.pop()))
                    time.sleep(_TICK_S)
                self.team.show("encoder ", None)
            self.refused = self.team.refused() - refused
            if self.team.deaths == deaths and not self.team.has_lost_tars():
                return


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
    if options.budget_usd is not None and teacher.price_usd is None:
        raise ArmadaError("--budget-usd: this teacher has no known price; cap the calls by --max-calls instead")
    if options.format not in FORMATS:
        raise ArmadaError(f"--format: {not_one_of(FORMATS, options.format)}")
    started = clock()
    sources = source_of_teacher(teacher), source_of_encoder(encoder)
    provenance = Provenance(clock, options.prompts)
    require_complete(cache, options.redraw_missing, provenance)
    require_teacher(cache, sources[0])
    cache.store.sweep()
    url = os.path.abspath(cache.store.url) if cache.store.is_local else cache.store.url
    setup = Setup(url, *specs, sources[0].digest, sources[1].digest, options, concurrency, workers=crew.size)
    with crew, _opened(crew, setup, cache) as spool:
        planned = prepare(cache, spool, *sources, options, provenance)
        before = total_spent(cache, spool, sources[0])
        plan = make_plan(cache, *sources, requests)
        require_pictures(cache, *sources, requests.index)
        if crew.shares_spool:
            setup = replace(setup, planned=planned)
            allowances = None
        else:
            setup = replace(setup, options=replace(options, max_calls=None, budget_usd=None))
            allowances = Allowances(options.max_calls, options.budget_usd, teacher.price_usd)
        left, stopped, refused = plan, "", 0
        if plan.calls or plan.features_at_hand < len(requests):
            check_writable(cache.store, build_folders(*sources))
            for note in redraw_notes(cache, sources[0], plan):
                print(f"teacher {sources[0].spec.get('kind', '')}: {note}", file=sys.stderr)
            team = Team(crew, setup, allowances)
            in_flight = concurrency or int(getattr(teacher, "concurrency", 0))
            work = _Coordination(
                cache, *sources, teacher.price_usd, in_flight, requests, options, team, allowances, stop
            )
            try:
                work.draw(plan)
                if work.stopped != "interrupted":
                    out_of_budget, work.stopped = work.stopped, ""
                    work.encode()
                    work.stopped = work.stopped or out_of_budget
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
        total = total_spent(cache, spool, sources[0])
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
        stopped=stopped or ("interrupted" if stop() else ""),
    )
    if report.drawn or report.encoded or report.calls:
        write_card(cache)
    with contextlib.suppress(CacheError):  # it is derived, and a cache with nothing to add may be read-only
        cache.log.write_checkpoint()
    return report


@contextlib.contextmanager
def _opened(crew: Crew, setup: Setup, cache: Cache) -> Iterator[Spool]:
    """Let the workers' machines commit what earlier builds left there, then open this host's spool."""
    crew.prepare(setup)
    with open_spool(cache) as spool:
        yield spool
