"""Provenance: who commits, when, and where the prompts came from."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TypedDict


class ByAndAt(TypedDict):
    """The keyword arguments of `Cache.commit` that say who commits, when, and where the prompts came from."""

    by: str
    at: str
    prompts: str


class Provenance:
    """Who commits, when, and where the prompts came from. `clock` returns seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], prompts: str = "") -> None:
        self._clock = clock
        self._prompts = prompts
        self._by = f"{_user()}@{socket.gethostname()}"

    def now(self) -> ByAndAt:
        """Return the keyword arguments `by`, `at` and `prompts` of `Cache.commit`, at the current time."""
        at = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat(timespec="seconds")
        return {"by": self._by, "at": at, "prompts": self._prompts}


def _user() -> str:
    """Return the user's name, or the number of a user without one, as containers have them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}"
