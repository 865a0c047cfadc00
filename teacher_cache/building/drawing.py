"""Drawing: send the wanted requests to the teacher, and store each answer in the spool as soon as it arrives.

A call is reserved in the spool before it is sent. A request that failed transiently is sent again in the same build,
with a growing delay, until it succeeds or `attempts` calls have failed, which is recorded as a failure. A request that
was turned away is sent again under the call reserved for it. If the build stops before, the next one requests it. If an
answer can't be stored (the disk is full), no further call is sent, and the answers of the calls in flight are stored in
the room reserved for them.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from teacher_cache.building.answers import PICTURES, IdenticalPictures, Kind, check_answer
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.other_hosts import RequestQueue
from teacher_cache.building.plan import Plan
from teacher_cache.building.retries import Retries, Sending
from teacher_cache.building.same_pictures import redraw_notes
from teacher_cache.building.sealing import Sealer
from teacher_cache.errors import ArmadaError, CacheError
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool, StoredError
from teacher_cache.teachers import Failure, Picture, Request, Teacher

if TYPE_CHECKING:
    from tqdm import tqdm

_FIRST_PICTURE_BYTES = 256 << 10  # how large a picture is taken to be before the first one has arrived


@dataclass
class Drawing:
    """Draws the wanted pictures of a plan; counts what was drawn and, by reason, what failed. `stopped` may say why."""

    spool: Spool
    teacher: Teacher
    teacher_source: Source
    options: BuildOptions
    background: Sealer
    stop: Callable[[], bool]
    clock: Callable[[], float]
    drawn: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    stopped: str = ""  # or "budget" or "interrupted"
    shared: tuple[str, ...] = ()  # the digests of further sources whose calls count under the same caps
    kind: Kind = PICTURES
    _in_flight: dict[str, Sending] = field(default_factory=dict)  # by image key
    _claimed_elsewhere: list[Wanted] = field(default_factory=list)  # by another build of this host
    _unrecorded: deque[Picture | Failure] = field(default_factory=deque)  # answers that are not in the spool yet
    _records: deque[Future[None]] = field(default_factory=deque)  # the recorder's tasks
    _error: ArmadaError | None = None  # why no further call is sent
    _pulled: int = 0  # requests
    _prompts: dict[str, tuple[str, int]] = field(default_factory=dict)  # of unrecorded answers, by image key

    def __post_init__(self) -> None:
        self._name = f"{self.kind.role} {self.teacher_source.spec.get('kind', '')}"
        self._retries = Retries(self.options.attempts)
        self._identical = IdenticalPictures(self._name, getattr(self.teacher, "if_identical", ""))

    def run(self, plan: Plan, planned: int) -> None:
        """Draw the plan's wanted rows; `planned` is the spool's last seal before the plan was made.

        Raises ArmadaError if the teacher stops the build or fails for an unknown reason, CacheError if the disk is
        full. Answers that have arrived are stored in any case.
        """
        started, self._sealed_at = time.monotonic(), self.clock()
        self.spool.reserve.grow(self._room(_FIRST_PICTURE_BYTES))
        for note in redraw_notes(self.background.cache, self.teacher_source, plan):
            print(f"{self._name}: {note}", file=sys.stderr)
        with progress(plan.calls, self._name, self.kind.noun) as bar, ThreadPoolExecutor(1) as recorder:
            pending: Iterator[Wanted] = RequestQueue(plan, self.background.others, bar.update)
            try:
                while not self.stopped and not self._error:
                    pulled = self._pulled
                    for answer in self._answers(self._requests(pending, planned, bar)):
                        if not self._schedules_retry(answer):
                            self._unrecorded.append(answer)
                            self._records.append(recorder.submit(self._record))
                            bar.update()
                        self._wait_for_records(self._concurrency)  # a killed build loses unrecorded answers
                    left = next(pending, None)  # a teacher may end before it has pulled all requests
                    if left and not self.stopped and not self._error:
                        if self._pulled == pulled:
                            raise ArmadaError(f"{self._name}: it pulls no request, though pictures are missing")
                        pending = itertools.chain([left], pending)
                        continue
                    if not self._claimed_elsewhere and not self._retries:
                        break
                    self._wait_for_retry()
                    pending, self._claimed_elsewhere = iter(self._claimed_elsewhere), []
            finally:
                self._records.append(recorder.submit(self._record))  # what could not be stored at the first try
                self._wait_for_records(0)
                self._free_reserved()
                self.background.seal()
        if self._error:
            raise self._error
        answers = self.drawn + sum(self.failed.values())
        self.spool.add_rate(f"{self.kind.role} {self.teacher_source.name}", answers, time.monotonic() - started)

    def _answers(self, requests: Iterator[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request that the teacher pulls: an answer that was not requested, or a second one, is
        dropped, and a missing one is a failure. An answer that is none ends the build."""
        odd = 0
        for given in self.teacher.draw(requests):
            try:
                answer = check_answer(given, self._name)
            except ArmadaError as error:  # the calls in flight end, and their answers are stored
                self._error = self._error or error
                continue
            if answer.image_key in self._in_flight:
                yield answer
                continue
            odd += 1
            if odd == 1:
                key = answer.image_key
                print(f"{self._name}: an answer to no request in flight is dropped: {key!r}", file=sys.stderr)
        for key in [] if self._error else list(self._in_flight):
            yield Failure(key, "transient", "the teacher gave no answer to this request")

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
            retry = self._retries.peek()
            if retry and retry.refusals:
                yield self._sent(self._retries.pop())
                continue
            wanted = retry.wanted if retry else next(pending, None)
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
                self._retries.pop()
            if claim == "granted":
                yield self._sent(retry or Sending(0.0, 0, wanted))
            elif claim == "held":
                self._claimed_elsewhere.append(wanted)
            else:
                bar.update()

    def _sent(self, sending: Sending) -> Request:
        request = sending.wanted.request
        self._in_flight[request.image_key] = sending
        self._pulled += 1
        return request

    def _budget(self) -> Budget:
        most, elsewhere = (self.options.max_calls, self.options.budget_usd), self.background.spent_elsewhere
        return Budget(*most, self.teacher.price_usd, elsewhere, self.shared)

    def _wait_for_records(self, most: int) -> None:
        """Wait until at most `most` answers are not stored yet. The first error ends the build later."""
        while len(self._records) > most or (self._records and self._records[0].done()):
            try:
                self._records.popleft().result()
            except ArmadaError as error:
                self._error = self._error or error

    def _schedules_retry(self, answer: Picture | Failure) -> bool:
        """Schedule a retry if the request was turned away, or failed transiently with attempts left; return whether."""
        sent = self._in_flight.pop(answer.image_key)
        if not self._retries.take_back(sent, answer):
            self._prompts[answer.image_key] = sent.wanted.request.prompt, sent.wanted.request.sample
            return False
        if isinstance(answer, Failure) and not answer.turned_away:
            self._note_cost(answer)
        return True

    def _free_reserved(self) -> None:
        """Note that nothing was paid for the reserved calls that the server turned away."""
        for sending in self._retries.reserved() if self.teacher.price_usd is not None else []:
            self._note_cost(Failure(sending.wanted.request.image_key, "transient", "", 0.0))

    def _note_cost(self, answer: Failure) -> None:
        try:
            self.spool.note_cost(answer)
        except CacheError as error:  # its reserved price stays in the ledger
            self._error = self._error or error

    def _wait_for_retry(self) -> None:
        """Wait until the next retry is due, or for a moment if another build has claimed rows: it may die."""
        due = min(self._retries.next_due, time.monotonic() + 0.2 if self._claimed_elsewhere else float("inf"))
        while time.monotonic() < due and not self.stop():
            time.sleep(max(0.0, min(0.2, due - time.monotonic())))

    def _record(self) -> None:
        """On the recorder's thread: check the answers that have arrived, store them together, and start a seal if one
        is due."""
        answers = []
        while self._unrecorded:
            answer = self._unrecorded.popleft()
            try:
                answers.append(self.kind.check(answer))
            except ArmadaError as error:  # the other answers are stored all the same
                self._error = self._error or error
        if not answers:  # an earlier call has recorded this answer together with others
            return
        try:
            self.spool.record(answers)
        except StoredError as error:
            self._error = self._error or error
        except CacheError:
            self._unrecorded.extend(answers)
            raise
        for answer in answers:
            prompt, sample = self._prompts.pop(answer.image_key)
            if isinstance(answer, Picture):
                self.drawn += 1
                if not getattr(self.teacher, "deterministic", False):
                    self._identical.add(answer, prompt, sample)
            else:
                self.failed[answer.reason] = self.failed.get(answer.reason, 0) + 1
        if self._error:
            return
        self.spool.reserve.grow(self._room(max((len(a.data) for a in answers if isinstance(a, Picture)), default=0)))
        full = self.spool.count(self.teacher_source.digest, "drawn") >= self.options.seal_rows
        if (full or self.clock() - self._sealed_at >= self.options.seal_seconds) and not self.background.is_sealing:
            self.background.seal()
            self._sealed_at = self.clock()
