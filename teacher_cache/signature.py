"""Who commits, when, and where the prompts came from."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from datetime import datetime, timezone


class Signature:
    """What a commit says beside its shards; the clock is asked at each."""

    def __init__(self, clock: Callable[[], float], prompts: str = "") -> None:
        self._clock = clock
        self._prompts = prompts
        self._by = f"{getpass.getuser()}@{socket.gethostname()}"

    def now(self) -> dict[str, str]:
        """The keyword arguments of `Cache.commit`."""
        at = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat(timespec="seconds")
        return {"by": self._by, "at": at, "prompts": self._prompts}
