"""Drawing: send the wanted requests to the teacher, and store each answer in the spool as soon as it arrives.

A call is reserved in the spool before it is sent. A request that failed transiently is sent again in the same build,
with a growing delay, until it succeeds or `attempts` calls have failed, which is recorded as a failure. A request that
was turned away is sent again under the call reserved for it. If the build stops before, the next one requests it. If an
answer can't be stored (the disk is full), no further call is sent, and the answers of the calls in flight are stored in
the room reserved for them.

The teacher's thread waits neither for a picture's check nor for the disk: pictures are checked on other threads, and
one thread writes claims and answers together (spool/writer.py). No more answers wait than calls are in flight.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from teacher_cache.building.answers import PICTURES, IdenticalPictures, Kind, answers_of
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.other_hosts import RequestQueue
from teacher_cache.building.plan import Plan
from teacher_cache.building.retries import Retries, Sending
from teacher_cache.building.same_pictures import redraw_notes
from teacher_cache.building.sealing import Sealer, SealTimes
from teacher_cache.errors import ArmadaError, CacheError
from teacher_cache.files.crash_points import crash_point
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.progress_bar import progress
from teacher_cache.spool.ahead import ClaimsAhead
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Wanted
from teacher_cache.spool.spool import Spool
from teacher_cache.spool.statements import Answered
from teacher_cache.spool.tasks import keep_tasks
from teacher_cache.spool.writer import Writer
from teacher_cache.teachers import Failure, Picture, Request, Teacher
from teacher_cache.workers import Workers

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
    _unstored: dict[str, Wanted] = field(default_factory=dict)  # whose answers have arrived, by image key
    _stored: threading.Condition = field(default_factory=threading.Condition)  # notified when there are fewer of them
    _error: Exception | None = None  # why no further call is sent
    _pulled: int = 0  # requests

    def __post_init__(self) -> None:
        self._name = f"{self.kind.role} {self.teacher_source.spec.get('kind', '')}"
        self._retries = Retries(self.options.attempts)
        self._identical = IdenticalPictures(self._name, getattr(self.teacher, "if_identical", ""))

    def run(self, plan: Plan, planned: int) -> None:
        """Draw the plan's wanted rows; `planned` is the spool's last seal before the plan was made.

        Raises ArmadaError if the teacher stops the build or fails for an unknown reason, CacheError if the disk is
        full. Answers that have arrived are stored in any case.
        """
        started, digest = time.monotonic(), self.teacher_source.digest
        self._times = SealTimes(self.spool, digest, self.options, self.clock)
        self.spool.reserve.grow(self._room(_FIRST_PICTURE_BYTES))
        for note in redraw_notes(self.background.cache, self.teacher_source, plan):
            print(f"{self._name}: {note}", file=sys.stderr)
        keep_tasks(self.teacher, self.spool, digest)
        self._writer = Writer(self.spool, digest, planned, budget=self._budget, stored=self._count)
        self._claims: ClaimsAhead[Sending] = ClaimsAhead(self._writer, self._next, max(0, self._concurrency - 1))
        with progress(plan.calls, self._name, self.kind.noun) as self._bar:
            self._pending: Iterator[Wanted] = RequestQueue(plan, self.background.others, self._bar.update)
            try:
                with self._writer, Workers(min(4, os.cpu_count() or 1), self._check, "check") as self._checkers:
                    self._draw_all()
            finally:
                self._free_unsent()
                self.background.seal()
        if self._has_failed():
            raise self._error or AssertionError
        answers = self.drawn + sum(self.failed.values())
        self.spool.add_rate(f"{self.kind.role} {self.teacher_source.name}", answers, time.monotonic() - started)

    def _draw_all(self) -> None:
        while not self.stopped and not self._has_failed():
            pulled = self._pulled
            facts = self._in_flight, self._name, self._fail, self._has_failed
            for answer in answers_of(self.teacher, self._requests(), *facts):
                if not self._schedules_retry(answer):
                    self._store(answer)
                    self._bar.update()
            if self.stopped or self._has_failed():
                return
            if self._claims.has_next():  # a teacher may end before it has pulled all requests
                if self._pulled == pulled:
                    raise ArmadaError(f"{self._name}: it pulls no request, though pictures are missing")
                continue
            if not self._claimed_elsewhere and not self._retries:
                return
            self._retries.wait(self.stop, 0.2 if self._claimed_elsewhere else float("inf"))  # another build may die
            self._pending, self._claimed_elsewhere = iter(self._claimed_elsewhere), []

    def _fail(self, error: Exception) -> None:
        """End the build later: no further call is sent, the calls in flight end, and their answers are stored."""
        self._error = self._error or error

    def _has_failed(self) -> bool:
        self._error = self._error or self._writer.error
        return self._error is not None

    @property
    def _concurrency(self) -> int:
        """The number of calls that the teacher has in flight at once; 0 if it draws one picture after the other."""
        return int(getattr(self.teacher, "concurrency", 0))

    def _room(self, largest: int) -> int:
        """Return the bytes that the answers in flight take in the spool if a picture has at most `largest` bytes."""
        return 2 * largest * (max(self._concurrency, len(self._in_flight)) + 2)

    def _requests(self) -> Iterator[Request]:
        """Yield the requests to send, whose claims are durable; after an error none: the calls in flight end."""
        while not self._has_failed():
            if self.stop():
                self.stopped = "interrupted"
                return
            retry = self._retries.peek()
            if retry and retry.refusals:
                yield self._sent(self._retries.pop())
                continue
            try:
                taken = self._claims.take(self._concurrency - len(self._in_flight))
            except CacheError as error:
                self._fail(error)
                return
            if taken is None:
                return
            sending, claim = taken
            if claim == "spent":
                self.stopped = "budget"
                return
            if claim == "granted":
                crash_point("drawing.send")
                yield self._sent(sending)
            elif claim == "held":
                self._claimed_elsewhere.append(sending.wanted)
            else:
                self._bar.update()

    def _next(self) -> Sending | None:
        """Return the next request to claim: one to send again, if it is due, else a new one. One that was turned away
        has its claim."""
        retry = self._retries.peek()
        if retry and not retry.refusals:
            return self._retries.pop()
        wanted = next(self._pending, None)
        return Sending(0.0, 0, wanted) if wanted else None

    def _sent(self, sending: Sending) -> Request:
        request = sending.wanted.request
        self._in_flight[request.image_key] = sending
        self._pulled += 1
        return request

    def _budget(self) -> Budget:
        price, elsewhere = self.teacher.price_usd, self.background.spent_elsewhere
        return Budget(self.options.max_calls, self.options.budget_usd, price, elsewhere, self.shared)

    def _schedules_retry(self, answer: Picture | Failure) -> bool:
        """Schedule a retry if the request was turned away, or failed transiently with attempts left; return whether."""
        sent = self._in_flight.pop(answer.image_key)
        if not self._retries.take_back(sent, answer):
            self._unstored[answer.image_key] = sent.wanted
            return False
        if isinstance(answer, Failure) and not answer.turned_away:
            self._writer.note_cost(answer)
        return True

    def _free_unsent(self) -> None:
        """Give back the claims that were not sent; nothing was paid for requests that the server turned away."""
        unsent = self._claims.give_up()
        free = [Failure(sending.wanted.request.image_key, "transient", "", 0.0) for sending in self._retries.reserved()]
        with contextlib.suppress(CacheError):  # on a full disk, they stay in the ledger
            self.spool.give_back(self.teacher_source.digest, unsent)
            self.spool.write(None, [], free if self.teacher.price_usd is not None else [])

    def _store(self, answer: Picture | Failure) -> None:
        """Let an answer be checked and stored. Wait until no more of them wait than calls are in flight: a killed build
        loses them. A teacher without calls in flight gets its next claim when the writer has stored its answer."""
        if not self._concurrency:
            self._check(answer)
            return
        self._checkers.put(answer)
        while self._checkers.ready:
            self._checkers.get()
        with self._stored:
            while len(self._unstored) > self._concurrency and not self._has_failed():
                self._stored.wait(0.5)

    def _check(self, answer: Picture | Failure) -> None:
        """Check an answer, and give it to the writer. An error ends the build; the other answers are stored."""
        try:
            checked = self.kind.check(answer)
            digest = sha256(checked.data) if isinstance(checked, Picture) else ""
            self._writer.store([(checked, digest)])
        except Exception as error:
            self._fail(error)
            with self._stored:
                self._stored.notify()

    def _count(self, answers: Sequence[Answered]) -> None:
        """On the writer's thread: count answers that are stored, and start a seal if one is due."""
        try:
            for answer, digest in answers:
                request = self._unstored.pop(answer.image_key).request
                if isinstance(answer, Failure):
                    self.failed[answer.reason] = self.failed.get(answer.reason, 0) + 1
                    continue
                self.drawn += 1
                if not getattr(self.teacher, "deterministic", False):
                    self._identical.add(digest, request.prompt, request.sample)
            self._seal_if_due(answers)
        finally:
            with self._stored:
                self._stored.notify()

    def _seal_if_due(self, answers: Sequence[Answered]) -> None:
        if self._has_failed() or not answers:
            return
        sizes = [len(answer.data) for answer, _ in answers if isinstance(answer, Picture)]
        self.spool.reserve.grow(self._room(max(sizes, default=0)))
        self._times.seal_if_due(self.background, len(sizes))
