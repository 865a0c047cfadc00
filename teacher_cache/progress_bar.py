"""Progress on standard error: a bar with rate and remaining time on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
from functools import cache
from typing import Any


def progress(total: int, what: str, unit: str, done: int = 0) -> Any:
    """A tqdm bar; use as a context manager and call `update(n)`. Rate and remaining time are in `unit` and of this
    process: `done` was done before it."""
    terminal = sys.stderr.isatty()
    return _bar()(
        total=total,
        initial=done,
        desc=what,
        unit=unit,
        unit_scale=False,
        file=sys.stderr if terminal else _Lines(),
        dynamic_ncols=terminal,
        mininterval=0.2 if terminal else 15,
        ascii=None if terminal else " =",
        leave=True,
    )


class _Lines:
    """Standard error where it is no terminal: each state of a bar is a line of its own, and no cursor is moved."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._last = ""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line and line != self._last:  # a bar says its end twice
            sys.stderr.write(f"{line}\n")
            self._last = line

    def flush(self) -> None:
        sys.stderr.flush()


@cache
def _bar() -> Any:
    """tqdm with a lock of this process's own: its default is shared with forks, and one that is killed keeps it."""
    from tqdm import tqdm

    bar: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
    bar.set_lock(threading.RLock())
    return bar
