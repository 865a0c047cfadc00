"""Claims ahead of need: a request whose claim is durable already is sent at once, without a wait for the disk.

As many requests are claimed together as the teacher has room for. If it takes them faster than the spool can write,
more are claimed ahead, at most as many as it has in flight; a slow teacher finds none claimed that it does not send.
A claim counts as a call from the moment it is durable. Those that are not sent are given back, and a kill leaves them
counted: the ledger may count more calls than were sent, but never fewer.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

from teacher_cache.spool.rows import Claim, Wanted
from teacher_cache.spool.writer import Writer

_WRITES = 4


class Sendable(Protocol):
    """What is sent: it has a picture to request."""

    @property
    def wanted(self) -> Wanted:
        """The picture."""
        ...


Item = TypeVar("Item", bound=Sendable)


class ClaimsAhead(Generic[Item]):
    """The next requests with what became of their claims, in the order of `source`, which returns None at its end.

    Args:
        writer: Makes the claims.
        source: Returns the next request.
        most: How many requests may be claimed ahead of need.
    """

    def __init__(self, writer: Writer, source: Callable[[], Item | None], most: int) -> None:
        self._writer, self._source, self._most = writer, source, most
        self._claimed: deque[tuple[Item, Future[list[Claim]], int]] = deque()  # with its place in the result
        self._ahead = 0
        self._left_at = float("-inf")  # when the last request was taken
        self._is_spent = False

    def take(self, room: int) -> tuple[Item, Claim] | None:
        """Return the next request, as soon as its claim is durable, or None if there is none. The teacher has `room`
        for so many. Raises CacheError if the spool can't be written."""
        self._look_ahead(time.monotonic() - self._left_at)
        self._fill(1 if self._is_spent else max(1, room) + self._ahead)
        if not self._claimed:
            return None
        item, future, place = self._claimed.popleft()
        claim = future.result()[place]
        if claim == "spent":  # when it was claimed; a call may have cost less since then
            self._is_spent = True
            (claim,) = self._writer.claim([item.wanted]).result()
        self._left_at = time.monotonic()
        return item, claim

    def _look_ahead(self, seconds: float) -> None:
        """Set how many requests are claimed ahead, after a teacher has worked so long between two of them: as many as
        it takes while the spool writes a few times, approached by doubling and halving."""
        wanted = min(self._most, int(_WRITES * self._writer.seconds / max(seconds, 1e-4)))
        self._ahead = min(wanted, 2 * self._ahead + 1) if wanted > self._ahead else (self._ahead + wanted) // 2

    def _fill(self, size: int) -> None:
        """Claim requests up to `size`, as soon as a quarter of them is missing: many are claimed together, and the
        others last while the spool writes."""
        if len(self._claimed) > size - max(1, size // 4):
            return
        more: list[Item] = []
        while len(self._claimed) + len(more) < size and (item := self._source()) is not None:
            more.append(item)
        if more:
            future = self._writer.claim([item.wanted for item in more])
            self._claimed += [(item, future, place) for place, item in enumerate(more)]

    def has_next(self) -> bool:
        """Return whether there is another request."""
        self._fill(1)
        return bool(self._claimed)

    def give_up(self) -> list[str]:
        """Take no further request. Return the image keys of those whose claims were granted, but not taken."""
        keys = []
        for item, future, place in self._claimed:
            with contextlib.suppress(Exception):  # a claim that was not made
                if future.result()[place] == "granted":
                    keys.append(item.wanted.request.image_key)
        self._claimed.clear()
        return keys
