"""Drawing: send the wanted requests to the teacher, and store each answer in the spool as soon as it arrives.

A call is reserved in the spool before it is sent. A request that failed transiently is sent again in the same build,
with a growing delay, until it succeeds or `attempts` calls have failed, which is recorded as a failure. A request that
was turned away is sent again under the call that is reserved for it. If the build stops before that, the picture stays
missing, and the next build requests it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from teacher_cache.building.answers import IdenticalPictures, check_answer, check_picture
from teacher_cache.building.background import Background
from teacher_cache.building.options import Budget, BuildOptions
from teacher_cache.building.plan import Plan, requests_of
from teacher_cache.building.same_pictures import redraw_notes
from teacher_cache.building.spool import Spool, Wanted
from teacher_cache.errors import ArmadaError
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.teachers import Failure, Picture, Request, Teacher

if TYPE_CHECKING:
    from tqdm import tqdm

_BACKOFF_S = 1.0  # before the second attempt, doubled for each later one; multiplied by a random factor of 0.5 to 1
_LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True, order=True)
class _Retry:
    """A request to send again at `due` or later. If it was turned away (`refusals` times), its call is reserved."""

    due: float
    tie: int  # orders retries that are due at the same time
    wanted: Wanted = field(compare=False)
    attempt: int = field(compare=False)
    refusals: int = field(compare=False, default=0)


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
    _in_flight: dict[str, _Retry] = field(default_factory=dict)  # by image key; with the attempt's number
    _retries: list[_Retry] = field(default_factory=list)  # a heap
    _claimed_elsewhere: list[Wanted] = field(default_factory=list)  # by another build of this machine
    _unrecorded: deque[Picture | Failure] = field(default_factory=deque)  # answers that are not in the spool yet
    _ties: Iterator[int] = field(default_factory=itertools.count)
    _pulled: int = 0  # requests
    _prompts: dict[str, tuple[str, int]] = field(default_factory=dict)  # of unrecorded answers, by image key
    _identical: IdenticalPictures = field(default_factory=lambda: IdenticalPictures(""))

    def run(self, plan: Plan, planned: int) -> None:
        """Draw the plan's wanted rows; `planned` is the spool's last seal before the plan was made.

        Raises ArmadaError if the teacher stops the build or fails for an unknown reason, CacheError if the disk is
        full. Answers that have arrived are stored in any case.
        """
        started, self._sealed_at = time.monotonic(), self.clock()
        pending = requests_of(plan.wanted)
        max_unrecorded = getattr(self.teacher, "concurrency", 0)  # a killed build loses unrecorded answers
        name = f"teacher {self.teacher_source.spec.get('kind', '')}"
        self._identical = IdenticalPictures(name, getattr(self.teacher, "if_identical", ""))
        for note in redraw_notes(self.background.cache, self.teacher_source, plan.wanted):
            print(f"{name}: {note}", file=sys.stderr)
        with progress(plan.wanted.num_rows, name, "picture") as bar, ThreadPoolExecutor(1) as recorder:
            tasks: list[Future[None]] = []
            try:
                while not self.stopped:
                    pulled = self._pulled
                    for answer in self._answers(name, self._requests(pending, planned, bar)):
                        if not self._schedules_retry(answer):
                            self._unrecorded.append(answer)
                            tasks.append(recorder.submit(self._record))
                            bar.update()
                        while len(tasks) > max_unrecorded or (tasks and tasks[0].done()):
                            tasks.pop(0).result()
                    left = next(pending, None)  # a teacher may stop before it has pulled all requests
                    if left and not self.stopped:
                        if self._pulled == pulled:
                            raise ArmadaError(f"{name}: the teacher pulls no request, though pictures are missing")
                        pending = itertools.chain([left], pending)
                        continue
                    if not self._claimed_elsewhere and not self._retries:
                        break
                    self._wait_for_retry()
                    pending, self._claimed_elsewhere = iter(self._claimed_elsewhere), []
            finally:
                for retry in self._retries:
                    if retry.refusals:  # the reserved call was not taken, so nothing was paid for it
                        free = None if self.teacher.price_usd is None else 0.0
                        self.spool.note_cost(Failure(retry.wanted.request.image_key, "transient", "", free))
                for task in tasks:
                    task.result()
                self.background.seal()
        answers = self.drawn + sum(self.failed.values())
        self.spool.add_rate(f"teacher {self.teacher_source.name}", answers, time.monotonic() - started)

    def _answers(self, name: str, requests: Iterator[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request that the teacher pulls: an answer that was not requested, or a second one, is
        dropped, and a missing one is a failure. Raises ArmadaError if an answer is none."""
        odd = 0
        for given in self.teacher.draw(requests):
            answer = check_answer(given, name)
            if answer.image_key in self._in_flight:
                yield answer
                continue
            odd += 1
            if odd == 1:
                print(f"{name}: an answer to no request in flight is dropped: {answer.image_key!r}", file=sys.stderr)
        for key in list(self._in_flight):
            yield Failure(key, "transient", "the teacher gave no answer to this request")

    def _requests(self, pending: Iterator[Wanted], planned: int, bar: tqdm[Any]) -> Iterator[Request]:
        """Yield the requests to send; each is claimed when it is pulled."""
        while True:
            if self.stop():
                self.stopped = "interrupted"
                return
            retry = self._retries[0] if self._retries and self._retries[0].due <= time.monotonic() else None
            if retry and retry.refusals:
                heapq.heappop(self._retries)
                yield self._sent(retry)
                continue
            wanted = retry.wanted if retry else next(pending, None)
            if wanted is None:
                return
            budget = Budget(self.options.max_calls, self.options.budget_usd, self.teacher.price_usd)
            claim = self.spool.claim(self.teacher_source.digest, wanted, budget, planned)
            if claim == "spent":
                self.stopped = "budget"
                return
            if retry:
                heapq.heappop(self._retries)
            if claim == "granted":
                yield self._sent(_Retry(0.0, 0, wanted, retry.attempt + 1 if retry else 1))
            elif claim == "held":
                self._claimed_elsewhere.append(wanted)
            else:
                bar.update()

    def _sent(self, sent: _Retry) -> Request:
        request = sent.wanted.request
        self._in_flight[request.image_key] = sent
        self._pulled += 1
        return request

    def _schedules_retry(self, answer: Picture | Failure) -> bool:
        """Schedule a retry if the request was turned away, or failed transiently with attempts left; return whether."""
        sent = self._in_flight.pop(answer.image_key)
        request, refusals, attempt = sent.wanted.request, 0, sent.attempt
        if isinstance(answer, Failure) and answer.turned_away:
            refusals = sent.refusals + 1
        elif isinstance(answer, Picture) or answer.retry_after_s is None or attempt >= self.options.attempts:
            self._prompts[answer.image_key] = request.prompt, request.sample
            return False
        else:
            self.spool.note_cost(answer)
        backoff = min(_BACKOFF_S * 2 ** min((refusals or attempt) - 1, 16), _LONGEST_BACKOFF_S)
        wait_s = answer.retry_after_s or 0.0
        if not refusals or not wait_s:
            wait_s = max(wait_s, backoff * random.uniform(0.5, 1))
        heapq.heappush(
            self._retries, _Retry(time.monotonic() + wait_s, next(self._ties), sent.wanted, attempt, refusals)
        )
        return True

    def _wait_for_retry(self) -> None:
        """Wait until the next retry is due, or for a moment if another build has claimed rows, which are free if it
        dies."""
        due = self._retries[0].due if self._retries else float("inf")
        if self._claimed_elsewhere:
            due = min(due, time.monotonic() + 0.2)
        while time.monotonic() < due and not self.stop():
            time.sleep(max(0.0, min(0.2, due - time.monotonic())))

    def _record(self) -> None:
        """On the recorder's thread: check the answers that have arrived, store them together, and start a seal if one
        is due."""
        answers = [check_picture(self._unrecorded.popleft()) for _ in range(len(self._unrecorded))]
        if not answers:
            return  # an earlier call has recorded this answer together with others
        self.spool.record(answers)
        for answer in answers:
            prompt, sample = self._prompts.pop(answer.image_key)
            if isinstance(answer, Picture):
                self.drawn += 1
                if not getattr(self.teacher, "deterministic", False):
                    self._identical.add(answer, prompt, sample)
            else:
                self.failed[answer.reason] = self.failed.get(answer.reason, 0) + 1
        full = self.spool.count(self.teacher_source.digest, "drawn") >= self.options.seal_rows
        if (full or self.clock() - self._sealed_at >= self.options.seal_seconds) and not self.background.is_sealing:
            self.background.seal()
            self._sealed_at = self.clock()
