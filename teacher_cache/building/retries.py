"""The requests of a build that are sent again: after a transient failure as a new call, and after a server turned one
away under the call that is reserved for it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from teacher_cache.spool.rows import Wanted
from teacher_cache.teachers import Failure, Picture

_BACKOFF_S = 1.0  # before the second attempt, doubled for each later one; multiplied by a random factor of 0.5 to 1
_LONGEST_BACKOFF_S = 60.0


@dataclass(frozen=True, order=True)
class Sending:
    """A request that is sent, at `due` or later: its attempt's number, and how often it was turned away. If it was, its
    call is reserved already."""

    due: float
    tie: int  # orders those that are due at the same time
    wanted: Wanted = field(compare=False)
    attempt: int = field(compare=False, default=1)
    refusals: int = field(compare=False, default=0)


@dataclass
class Retries:
    """The requests that wait to be sent again, each with at most `attempts` attempts."""

    attempts: int
    _heap: list[Sending] = field(default_factory=list)
    _ties: Iterator[int] = field(default_factory=itertools.count)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float:
        """When the next request may be sent, on the monotonic clock; infinity if none waits."""
        return self._heap[0].due if self._heap else float("inf")

    def peek(self) -> Sending | None:
        """Return the request that may be sent now, or None."""
        return self._heap[0] if self.next_due <= time.monotonic() else None

    def pop(self) -> Sending:
        """Remove and return the request that is due first."""
        return heapq.heappop(self._heap)

    def take_back(self, sent: Sending, answer: Picture | Failure) -> bool:
        """Schedule the request again if it was turned away, or failed transiently with attempts left. Return if so."""
        if isinstance(answer, Picture):
            return False
        refusals = sent.refusals + 1 if answer.turned_away else 0
        if not refusals and (answer.retry_after_s is None or sent.attempt >= self.attempts):
            return False
        wait_s = answer.retry_after_s or 0.0
        if not refusals or not wait_s:  # a server that turned it away may have said how long to wait
            backoff_s = min(_BACKOFF_S * 2 ** min((refusals or sent.attempt) - 1, 16), _LONGEST_BACKOFF_S)
            wait_s = max(wait_s, backoff_s * random.uniform(0.5, 1))
        attempt = sent.attempt if refusals else sent.attempt + 1
        due = time.monotonic() + wait_s
        heapq.heappush(self._heap, Sending(due, next(self._ties), sent.wanted, attempt, refusals))
        return True

    def wait(self, stop: Callable[[], bool], most_s: float) -> None:
        """Wait until the next request is due, for at most so many seconds, or until `stop` says so."""
        due = min(self.next_due, time.monotonic() + most_s)
        while time.monotonic() < due and not stop():
            time.sleep(max(0.0, min(0.2, due - time.monotonic())))

    def reserved(self) -> list[Sending]:
        """Return the waiting requests whose calls are reserved, though the server turned them away."""
        return [sending for sending in self._heap if sending.refusals]
