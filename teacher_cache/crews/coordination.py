"""Coordination: hands a plan's rows out in small parts, and repeats until the cache has them; then the encoding.

The cache's commits are the only truth about what is done. When all workers are idle, and so all that they did is
committed, the plan is made again: what a killed worker left is in it, and what was paid for is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from teacher_cache.building.options import BuildOptions
from teacher_cache.building.plan import Plan, make_plan, missing_features
from teacher_cache.building.requests import Requests
from teacher_cache.building.spool_opening import sources_of
from teacher_cache.crews.allowances import Allowances
from teacher_cache.crews.messages import Draw, Encode
from teacher_cache.crews.parts import Parts, part_size, tar_parts
from teacher_cache.crews.team import Team
from teacher_cache.errors import CacheError
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.storage.cache import Cache

_ROUNDS = 3  # that bring nothing, before the build gives up
_TICK_S = 0.02
_LOOK_S = 15.0  # between two looks at what other hosts have spent


@dataclass
class Coordination:
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
        return make_plan(self.cache, self.teacher, self.encoder, self.requests).ready()

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
            counted = {source.digest for source in sources_of(self.teacher)}
            self.allowances.committed = [one for one in records if one.teacher in counted]

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
