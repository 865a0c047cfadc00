"""The rate limit of requests to one server, shared by all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_PAUSE_S = 1.0  # after a request that was turned away without a time to wait; doubled each time that it did not help
_LONGEST_PAUSE_S = 60.0


class RateLimit:
    """At most `per_minute` requests per minute (0: no limit), and none during a pause after a request was turned
    away."""

    def __init__(
        self,
        per_minute: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s = 60 / per_minute if per_minute else 0.0
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = self._clock()
        self._paused_at = float("-inf")
        self._pause_s = _PAUSE_S

    def wait(self) -> float:
        """Block until the caller may send its request. Return the time, for `turned_away`."""
        while True:
            with self._lock:
                now, due = self._clock(), self._next
                if now >= due:
                    self._next = now + self._interval_s
                    return now
            self._sleep(due - now)

    def turned_away(self, sent_at: float, wait_s: float = 0.0) -> float:
        """Let no thread send a request for `wait_s`, or, if the server named no time, for a pause that doubles each
        time. Return the seconds until requests are sent again. A request that was sent before the pause began is of the
        same burst, and does not double it."""
        with self._lock:
            now = self._clock()
            if wait_s:
                self._next = max(self._next, now + wait_s)
            elif sent_at > self._paused_at:
                self._next = max(self._next, now + self._pause_s)
                self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
                self._paused_at = now
            return max(wait_s, self._next - now)

    def taken(self) -> None:
        """Note that the server took a request: the next pause is a short one."""
        with self._lock:
            self._pause_s = _PAUSE_S
