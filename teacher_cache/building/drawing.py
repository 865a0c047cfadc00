"""Drawing: send the wanted requests to the teacher, and store each answer in the spool as soon as it arrives.

A call is reserved in the spool before it is sent. A request that failed transiently is sent again in the same build,
with a growing delay, until it succeeds or `attempts` calls have failed, which is recorded as a failure. If the build
stops before that, the picture stays missing, and the next build requests it. If an answer can't be stored (the disk is
full), no further call is sent, and the answers of the calls in flight are stored in the room reserved for them.
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
from teacher_cache.building.spool import Spool, StoredError
from teacher_cache.building.spool_rows import Wanted
from teacher_cache.errors import ArmadaError, CacheError
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.storage.pictures import picture_fault
from teacher_cache.teachers import REASONS, Failure, Picture, Request, Teacher

if TYPE_CHECKING:
    from tqdm import tqdm

_BACKOFF_S = 1.0  # before the second attempt, doubled for each later one; multiplied by a random factor of 0.5 to 1
_LONGEST_BACKOFF_S = 60.0
_FIRST_PICTURE_BYTES = 256 << 10  # how large a picture is taken to be before the first one has arrived


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
    _claimed_elsewhere: list[Wanted] = field(default_factory=list)  # by another build of this host
    _unrecorded: deque[Picture | Failure] = field(default_factory=deque)  # answers that are not in the spool yet
    _records: deque[Future[None]] = field(default_factory=deque)  # the recorder's tasks
    _error: ArmadaError | None = None  # why no further call is sent
    _ties: Iterator[int] = field(default_factory=itertools.count)  # order retries that are due at the same time

    def run(self, plan: Plan, planned: int) -> None:
        """Draw the plan's wanted rows; `planned` is the spool's last seal before the plan was made.

        Raises ArmadaError if the teacher stops the build or fails for an unknown reason, CacheError if the disk is
        full. Answers that have arrived are stored in any case.
        """
        started, self._sealed_at = time.monotonic(), self.clock()
        self.spool.reserve.grow(self._room(_FIRST_PICTURE_BYTES))
        pending = requests_of(plan.wanted)
        name = f"teacher {self.teacher_source.spec.get('kind', '')}"
        with progress(plan.wanted.num_rows, name, "picture") as bar, ThreadPoolExecutor(1) as recorder:
            try:
                while not self.stopped and not self._error:
                    for answer in self.teacher.draw(self._requests(pending, planned, bar)):
                        if not self._schedules_retry(answer):
                            self._unrecorded.append(answer)
                            self._records.append(recorder.submit(self._record))
                            bar.update()
                        self._wait_for_records(self._concurrency)  # a killed build loses unrecorded answers
                    if not self._claimed_elsewhere and not self._retries:
                        break
                    self._wait_for_retry()
                    pending, self._claimed_elsewhere = iter(self._claimed_elsewhere), []
            finally:
                self._records.append(recorder.submit(self._record))  # what could not be stored at the first try
                self._wait_for_records(0)
                self.background.seal()
        if self._error:
            raise self._error
        answers = self.drawn + sum(self.failed.values())
        self.spool.add_rate(f"teacher {self.teacher_source.name}", answers, time.monotonic() - started)

    @property
    def _concurrency(self) -> int:
        """The number of calls that the teacher has in flight at once; 0 if it draws one picture after the other."""
        return int(getattr(self.teacher, "concurrency", 0))

    def _room(self, largest: int) -> int:
        """Return the bytes that the answers in flight take in the spool if a picture has at most `largest` bytes."""
        return 2 * largest * (self._concurrency + 2)

    def _requests(self, pending: Iterator[Wanted], planned: int, bar: tqdm[Any]) -> Iterator[Request]:
        """Yield the requests to send; each is claimed when it is pulled. After an error none is sent, so that the calls
        in flight end and their answers are stored."""
        while not self._error:
            if self.stop():
                self.stopped = "interrupted"
                return
            retry = self._retries[0] if self._retries and self._retries[0][0] <= time.monotonic() else None
            wanted = retry[2] if retry else next(pending, None)
            if wanted is None:
                return
            try:
                claim = self.spool.claim(self.teacher_source.digest, wanted, self._budget(), planned)
            except CacheError as error:
                self._error = error
                return
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

    def _budget(self) -> Budget:
        price, elsewhere = self.teacher.price_usd, self.background.spent_elsewhere
        return Budget(self.options.max_calls, self.options.budget_usd, price, elsewhere)

    def _wait_for_records(self, most: int) -> None:
        """Wait until at most `most` answers are not stored yet. The first error ends the build later."""
        while len(self._records) > most or (self._records and self._records[0].done()):
            try:
                self._records.popleft().result()
            except ArmadaError as error:
                self._error = self._error or error

    def _schedules_retry(self, answer: Picture | Failure) -> bool:
        """Schedule a retry if the answer is a transient failure with attempts left; return whether it is."""
        wanted, attempt = self._in_flight.pop(answer.image_key)
        if isinstance(answer, Picture) or answer.retry_after_s is None or attempt >= self.options.attempts:
            return False
        backoff = min(_BACKOFF_S * 2 ** (attempt - 1), _LONGEST_BACKOFF_S) * random.uniform(0.5, 1)
        due = time.monotonic() + max(answer.retry_after_s, backoff)
        try:
            self.spool.note_cost(answer)
        except CacheError as error:  # its reserved price stays in the ledger
            self._error = self._error or error
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
        answers = []
        while self._unrecorded:
            answer = self._unrecorded.popleft()
            try:
                answers.append(_checked(answer))
            except ArmadaError as error:  # the other answers are stored all the same
                self._error = self._error or error
        if not answers:
            return  # an earlier call has recorded this answer together with others
        try:
            self.spool.record(answers)
        except StoredError as error:
            self._error = self._error or error
        except CacheError:
            self._unrecorded.extend(answers)
            raise
        for answer in answers:
            if isinstance(answer, Picture):
                self.drawn += 1
            else:
                self.failed[answer.reason] = self.failed.get(answer.reason, 0) + 1
        if self._error:
            return
        self.spool.reserve.grow(self._room(max(len(a.data) if isinstance(a, Picture) else 0 for a in answers)))
        full = self.spool.count(self.teacher_source.digest, "drawn") >= self.options.seal_rows
        if (full or self.clock() - self._sealed_at >= self.options.seal_seconds) and not self.background.is_sealing:
            self.background.seal()
            self._sealed_at = self.clock()


def _checked(answer: Picture | Failure) -> Picture | Failure:
    """Return the answer, or a failure if its picture is blank or undecodable. Raises ArmadaError if the answer is a
    failure for an unknown reason."""
    fault = picture_fault(answer.data) if isinstance(answer, Picture) else None
    if fault:
        return Failure(answer.image_key, *fault, answer.cost_usd, answer.seconds)
    if isinstance(answer, Failure) and answer.reason not in REASONS:
        raise ArmadaError(
            f"the teacher returned a failure with the reason {answer.reason!r}; expected one of {', '.join(REASONS)}"
        )
    return answer
