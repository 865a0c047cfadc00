"""Drawing: send the wanted requests to the teacher, and store each answer in the spool as soon as it arrives.

A call is reserved in the spool before it is sent. A request that failed transiently is sent again in the same build,
with a growing delay, until it succeeds or `attempts` calls have failed, which is recorded as a failure. If the build
stops before that, the picture stays missing, and the next build requests it.
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
from typing import TYPE_CHECKING, Any

from teacher_cache.building.background import Background
from teacher_cache.building.options import Budget, BuildOptions
from teacher_cache.building.plan import Plan, requests_of
from teacher_cache.building.spool import Spool, Wanted
from teacher_cache.errors import ArmadaError
from teacher_cache.format.pixels import picture_fault
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.teachers import REASONS, Failure, Picture, Request, Teacher

if TYPE_CHECKING:
    from tqdm import tqdm

_BACKOFF_S = 1.0  # before the second attempt, doubled for each later one; multiplied by a random factor of 0.5 to 1
_LONGEST_BACKOFF_S = 60.0


@dataclass
class Drawing:
    """Draws the wanted pictures of a plan; counts what was drawn and, by reason, what failed. `stopped` is empty,
    "budget" or "interrupted"."""

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
    _in_flight: dict[str, tuple[Wanted, int]] = field(default_factory=dict)  # by image key, with the attempt's number
    _retries: list[tuple[float, int, Wanted, int]] = field(default_factory=list)  # a heap: due time, tie, ..., attempt
    _claimed_elsewhere: list[Wanted] = field(default_factory=list)  # by another build of this machine
    _unrecorded: deque[Picture | Failure] = field(default_factory=deque)  # answers that are not in the spool yet
    _ties: Iterator[int] = field(default_factory=itertools.count)  # order retries that are due at the same time

    def run(self, plan: Plan, planned: int) -> None:
        """Draw the plan's wanted rows; `planned` is the spool's last seal before the plan was made.

        Raises ArmadaError if the teacher stops the build or fails for an unknown reason, CacheError if the disk is
        full. Answers that have arrived are stored in any case.
        """
        started, self._sealed_at = time.monotonic(), self.clock()
        pending = requests_of(plan.wanted)
        max_unrecorded = getattr(self.teacher, "concurrency", 0)  # a killed build loses unrecorded answers
        name = f"teacher {self.teacher_source.spec.get('kind', '')}"
        with progress(plan.wanted.num_rows, name, "picture") as bar, ThreadPoolExecutor(1) as recorder:
            tasks: list[Future[None]] = []
            try:
                while not self.stopped:
                    for answer in self.teacher.draw(self._requests(pending, planned, bar)):
                        if not self._schedules_retry(answer):
                            self._unrecorded.append(answer)
                            tasks.append(recorder.submit(self._record))
                            bar.update()
                        while len(tasks) > max_unrecorded or (tasks and tasks[0].done()):
                            tasks.pop(0).result()
                    if not self._claimed_elsewhere and not self._retries:
                        break
                    self._wait_for_retry()
                    pending, self._claimed_elsewhere = iter(self._claimed_elsewhere), []
            finally:
                for task in tasks:
                    task.result()
                self.background.seal()
        answers = self.drawn + sum(self.failed.values())
        self.spool.add_rate(f"teacher {self.teacher_source.name}", answers, time.monotonic() - started)

    def _requests(self, pending: Iterator[Wanted], planned: int, bar: tqdm[Any]) -> Iterator[Request]:
        """Yield the requests to send; each is claimed when it is pulled."""
        budget = Budget(self.options.max_calls, self.options.budget_usd, self.teacher.price_usd)
        while True:
            if self.stop():
                self.stopped = "interrupted"
                return
            retry = self._retries[0] if self._retries and self._retries[0][0] <= time.monotonic() else None
            wanted = retry[2] if retry else next(pending, None)
            if wanted is None:
                return
            claim = self.spool.claim(self.teacher_source.digest, wanted, budget, planned)
            if claim == "spent":
                self.stopped = "budget"
                return
            if retry:
                heapq.heappop(self._retries)
            if claim == "granted":
                self._in_flight[wanted.request.image_key] = (wanted, retry[3] + 1 if retry else 1)
                yield wanted.request
            elif claim == "held":
                self._claimed_elsewhere.append(wanted)
            else:
                bar.update()

    def _schedules_retry(self, answer: Picture | Failure) -> bool:
        """Schedule a retry if the answer is a transient failure with attempts left; return whether it is."""
        wanted, attempt = self._in_flight.pop(answer.image_key)
        if isinstance(answer, Picture) or answer.retry_after_s is None or attempt >= self.options.attempts:
            return False
        backoff = min(_BACKOFF_S * 2 ** (attempt - 1), _LONGEST_BACKOFF_S) * random.uniform(0.5, 1)
        due = time.monotonic() + max(answer.retry_after_s, backoff)
        self.spool.note_cost(answer)
        heapq.heappush(self._retries, (due, next(self._ties), wanted, attempt))
        return True

    def _wait_for_retry(self) -> None:
        """Wait until the next retry is due, or for a moment if another build has claimed rows, which are free if it
        dies."""
        due = self._retries[0][0] if self._retries else float("inf")
        if self._claimed_elsewhere:
            due = min(due, time.monotonic() + 0.2)
        while time.monotonic() < due and not self.stop():
            time.sleep(max(0.0, min(0.2, due - time.monotonic())))

    def _record(self) -> None:
        """On the recorder's thread: check the answers that have arrived, store them together, and start a seal if one
        is due."""
        answers = [_checked(self._unrecorded.popleft()) for _ in range(len(self._unrecorded))]
        if not answers:
            return  # an earlier call has recorded this answer together with others
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


def _checked(answer: Picture | Failure) -> Picture | Failure:
    """Return the answer, or a failure if its picture is blank or undecodable. Raises ArmadaError if the answer is a
    failure for an unknown reason."""
    if isinstance(answer, Picture):
        fault = picture_fault(answer.data)
        if fault is None:
            return answer
        message = f"{answer.where}: {fault[1]}" if answer.where else fault[1]
        return Failure(answer.image_key, fault[0], message, answer.cost_usd, answer.seconds)
    if answer.reason not in REASONS:
        raise ArmadaError(
            f"the teacher returned a failure with the reason {answer.reason!r}; expected one of {', '.join(REASONS)}"
        )
    return answer
