"""Pacing: how fast requests may be sent to one server, for all threads at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RateLimit:
    """At most `per_minute` requests a minute (0: no limit), and none during a pause that the server asked for."""

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
        """Return when it is this caller's turn."""
        while True:
            with self._lock:
                now, at = self._clock(), self._next
                if now >= at:
                    self._next = now + self._interval_s
                    return
            self._sleep(at - now)

    def pause(self, seconds: float) -> None:
        """Let nobody send for so many seconds from now."""
        with self._lock:
            self._next = max(self._next, self._clock() + seconds)
