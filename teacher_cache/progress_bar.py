"""Progress on standard error: on a terminal a bar with rate and remaining time, elsewhere a line every 15 seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

_counted: Callable[[str, int], object] | None = None


def count_instead(counted: Callable[[str, int], object] | None) -> None:
    """Show no bars in this process from now on: call `counted(label, n)` when n units of a task are done. With None,
    show them again."""
    global _counted
    _counted = counted


class _Counter:
    """Stands in for a bar where units are only counted."""

    def __init__(self, label: str, counted: Callable[[str, int], object]) -> None:
        self._label, self._counted = label, counted

    def __enter__(self) -> _Counter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, n: int = 1) -> None:
        self._counted(self._label, n)


def progress(total: int, what: str, unit: str, done: int = 0) -> tqdm[NoReturn]:
    """Return a tqdm progress bar. Use it as a context manager and call `update(n)`.

    Args:
        total: The number of units of the whole task.
        what: The label of the bar.
        unit: The name of one unit, for the rate.
        done: The number of units that earlier processes completed; they don't count in the rate.
    """
    if _counted:
        return _Counter(what, _counted)  # type: ignore[return-value]
    terminal = sys.stderr.isatty()
    return _bar_class()(
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
    """Standard error that is not a terminal: each state of a bar becomes a line, without cursor movements."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self._last = ""

    def write(self, text: str) -> None:
        line = text.replace("\x1b[A", "").strip()
        if line and line != self._last:  # tqdm writes the last state twice
            sys.stderr.write(f"{line}\n")
            self._last = line

    def flush(self) -> None:
        sys.stderr.flush()


@cache
def _bar_class() -> type[tqdm[NoReturn]]:
    """Return a subclass of tqdm whose lock belongs to this process.

    The default lock is shared with forked processes, and a process that is killed while it has the lock never frees it.
    """
    from tqdm import tqdm

    bar_class: Any = type("Bar", (tqdm,), {"monitor_interval": 0})
    bar_class.set_lock(threading.RLock())
    return bar_class  # type: ignore[no-any-return]
