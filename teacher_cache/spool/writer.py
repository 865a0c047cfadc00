"""Group commits: what waits to be written to the spool is written together, in one transaction, by one thread.

While one transaction syncs the disk, the next one gathers, so that nothing waits longer than it must: an idle writer
writes at once, and a busy one syncs once for many calls. A claim is granted after it is durable, and so are all answers
that were given before it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Claim, Claims, Wanted
from teacher_cache.spool.spool import Spool, StoredError
from teacher_cache.spool.statements import Answered
from teacher_cache.teachers import Failure


@dataclass
class _Waiting:
    """What the next transaction writes."""

    claims: list[tuple[Sequence[Wanted], Future[list[Claim]]]] = field(default_factory=list)
    answers: list[Answered] = field(default_factory=list)
    costs: list[Failure] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.claims or self.answers or self.costs)


class Writer:
    """Writes to the spool of a build for one teacher. Use it as a context manager, which writes what is left.

    Args:
        spool: The build's spool.
        teacher: The teacher's digest.
        planned: The spool's last seal before the plan was made.
        budget: Returns the caps, before each transaction.
        stored: Called on the writer's thread after each transaction, with the answers that it made durable. What it
            raises becomes `error`.
    """

    def __init__(
        self,
        spool: Spool,
        teacher: str,
        planned: int,
        *,
        budget: Callable[[], Budget],
        stored: Callable[[Sequence[Answered]], None],
    ) -> None:
        self._spool, self._teacher, self._planned = spool, teacher, planned
        self._budget, self._stored = budget, stored
        self._changed = threading.Condition()
        self._waiting = _Waiting()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="spool writer")
        self.error: Exception | None = None  # the first one
        self.seconds = 0.0  # that the last transaction took

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def claim(self, wanted: Sequence[Wanted]) -> Future[list[Claim]]:
        """Make claims. The results come when they and all answers that were given before are durable; the future
        raises CacheError if the spool can't be written."""
        future: Future[list[Claim]] = Future()
        with self._changed:
            self._waiting.claims.append((wanted, future))
            self._changed.notify()
        return future

    def store(self, answers: Sequence[Answered]) -> None:
        """Store answers soon. If they can't be stored, `error` is set, and they are tried again with later ones
        and at the end."""
        with self._changed:
            self._waiting.answers += answers
            self._changed.notify()

    def note_cost(self, answer: Failure) -> None:
        """Store the cost of an answer that is not stored itself."""
        with self._changed:
            self._waiting.costs.append(answer)
            self._changed.notify()

    def _run(self) -> None:
        left: list[Answered] = []  # answers that could not be stored
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                waiting, self._waiting = self._waiting, _Waiting()
                is_last = self._is_closed
            waiting.answers = left + waiting.answers
            left = self._write(waiting) if waiting else []
            if is_last:
                break

    def _write(self, waiting: _Waiting) -> list[Answered]:
        """Write what waits in one transaction. Return the answers that could not be stored."""
        started = time.monotonic()
        wanted = [one for group, _ in waiting.claims for one in group]
        claims = Claims(self._teacher, wanted, self._budget(), self._planned)
        left: list[Answered] = []
        try:
            results = iter(self._spool.write(claims, waiting.answers, waiting.costs))
            for group, future in waiting.claims:
                future.set_result(list(itertools.islice(results, len(group))))
        except StoredError as error:
            self._fail(waiting, error)
        except Exception as error:
            self._fail(waiting, error)
            left = waiting.answers
        self.seconds = time.monotonic() - started
        try:
            self._stored([] if left else waiting.answers)
        except Exception as error:
            self.error = self.error or error
        return left

    def _fail(self, waiting: _Waiting, error: Exception) -> None:
        self.error = self.error or error
        for _, future in waiting.claims:
            future.set_exception(error)
