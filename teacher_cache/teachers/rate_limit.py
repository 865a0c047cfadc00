"""The rate limit of requests to one server, shared by all threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimit:
    """At most `per_minute` requests per minute (0: no limit), and none during a pause that the server asked for."""

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

    def wait(self) -> None:
        """Block until the caller may send its request."""
        while True:
            with self._lock:
                now, due = self._clock(), self._next
                if now >= due:
                    self._next = now + self._interval_s
                    return
            self._sleep(due - now)

    def pause(self, seconds: float) -> None:
        """Let no thread send a request for the next `seconds`."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
