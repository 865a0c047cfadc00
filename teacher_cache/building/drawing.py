"""Drawing: the teacher is asked for what is wanted, each answer is kept the moment it comes.

A call is reserved in the spool before it is sent. A failure in passing is asked again in the same build, later each
time, until it has been tried enough and is a row with its reason. Where the build stops before that, the row stays
missing, and the next build asks for it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from teacher_cache.building.background import Background
from teacher_cache.building.options import Budget, BuildOptions
from teacher_cache.building.plan import Plan, requests_of
from teacher_cache.building.spool import Spool, Wanted
from teacher_cache.errors import ArmadaError
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.storage.pictures import picture_fault
from teacher_cache.teachers import REASONS, Failure, Picture, Request, Teacher

_BACKOFF_S = 1.0  # before the second attempt; doubled for each one after it, and drawn from half of it to all
_LONGEST_BACKOFF_S = 60.0


@dataclass
class Drawing:
    """Asks the teacher for the wanted pictures, keeps each answer, seals now and then."""

    spool: Spool
    teacher: Teacher
    teacher_source: Source
    options: BuildOptions
    background: Background
    stop: Callable[[], bool]
    clock: Callable[[], float]
    drawn: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    stopped: str = ""
    _asked: dict[str, tuple[Wanted, int]] = field(default_factory=dict)  # in flight, and which attempt it is
    _later: list[tuple[float, int, Wanted, int]] = field(default_factory=list)  # a heap, by the time to ask again
    _held: list[Wanted] = field(default_factory=list)  # claimed by another build of this machine
    _came: deque[Picture | Failure] = field(default_factory=deque)  # answered, not yet kept
    _tickets: Iterator[int] = field(default_factory=itertools.count)

    def run(self, plan: Plan, planned: int) -> None:
        """Draw the plan's wanted rows; `planned` is the last seal before the plan was made."""
        started, self._sealed_at = time.monotonic(), self.clock()
        pending = requests_of(plan.wanted)
        unkept = getattr(self.teacher, "concurrency", 0)  # answers that may wait to be kept: a kill loses them
        name = f"teacher {self.teacher_source.spec.get('kind', '')}"
        with progress(plan.wanted.num_rows, name, "picture") as bar, ThreadPoolExecutor(1) as keeper:
            kept: list[Future[None]] = []
            try:
                while not self.stopped:
                    for answer in self.teacher.draw(self._requests(pending, planned, bar)):
                        if not self._asks_later(answer):
                            self._came.append(answer)
                            kept.append(keeper.submit(self._keep))
                            bar.update()
                        while len(kept) > unkept or (kept and kept[0].done()):
                            kept.pop(0).result()
                    if not self._held and not self._later:
                        break
                    self._rest()
                    pending, self._held = iter(self._held), []
            finally:
                for task in kept:
                    task.result()
                self.background.seal()
        answers = self.drawn + sum(self.failed.values())
        self.spool.add_rate(f"teacher {self.teacher_source.name}", answers, time.monotonic() - started)

    def _requests(self, pending: Iterator[Wanted], planned: int, bar: Any) -> Iterator[Request]:
        """The requests to send, each claimed the moment it is pulled."""
        budget = Budget(self.options.max_calls, self.options.budget_usd, self.teacher.price_usd)
        while True:
            if self.stop():
                self.stopped = "interrupted"
                return
            again = self._later[0] if self._later and self._later[0][0] <= time.monotonic() else None
            wanted = again[2] if again else next(pending, None)
            if wanted is None:
                return
            verdict = self.spool.claim(self.teacher_source.digest, wanted, budget, planned)
            if verdict == "spent":
                self.stopped = "budget"
                return
            if again:
                heapq.heappop(self._later)
            if verdict == "granted":
                self._asked[wanted.request.image_key] = (wanted, again[3] + 1 if again else 1)
                yield wanted.request
            elif verdict == "held":
                self._held.append(wanted)
            else:
                bar.update()

    def _asks_later(self, answer: Picture | Failure) -> bool:
        """Whether this is a failure in passing that is to be asked again in this build."""
        wanted, attempt = self._asked.pop(answer.image_key)
        if isinstance(answer, Picture) or answer.retry_after_s is None or attempt >= self.options.attempts:
            return False
        backoff = min(_BACKOFF_S * 2 ** (attempt - 1), _LONGEST_BACKOFF_S) * random.uniform(0.5, 1)
        due = time.monotonic() + max(answer.retry_after_s, backoff)
        self.spool.note_cost(answer)
        heapq.heappush(self._later, (due, next(self._tickets), wanted, attempt))
        return True

    def _rest(self) -> None:
        """Wait until there is something to ask again: a row of our own, or another build's (if it dies, it is ours)."""
        due = self._later[0][0] if self._later else float("inf")
        if self._held:
            due = min(due, time.monotonic() + 0.2)
        while time.monotonic() < due and not self.stop():
            time.sleep(max(0.0, min(0.2, due - time.monotonic())))

    def _keep(self) -> None:
        """On the keeper's thread: look at what has come, record it all at once, begin a seal when it is time."""
        answers = [_looked_at(self._came.popleft()) for _ in range(len(self._came))]
        if not answers:
            return  # the answer that this was called for went with those before it
        self.spool.record(answers)
        for answer in answers:
            if isinstance(answer, Picture):
                self.drawn += 1
            else:
                self.failed[answer.reason] = self.failed.get(answer.reason, 0) + 1
        full = self.spool.count(self.teacher_source.digest, "drawn") >= self.options.seal_rows
        if (full or self.clock() - self._sealed_at >= self.options.seal_seconds) and not self.background.is_sealing:
            self.background.seal()
            self._sealed_at = self.clock()


def _looked_at(answer: Picture | Failure) -> Picture | Failure:
    """The answer, or the failure that its picture is. Raises ArmadaError for a reason that is none."""
    fault = picture_fault(answer.data) if isinstance(answer, Picture) else None
    if fault:
        return Failure(answer.image_key, *fault, answer.cost_usd, answer.seconds)
    if isinstance(answer, Failure) and answer.reason not in REASONS:
        raise ArmadaError(f"the teacher gave the reason {answer.reason!r}; expected one of {', '.join(REASONS)}")
    return answer
