"""Progress on standard error: on a terminal a bar with rate and remaining time, elsewhere a line every 15 seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakSet

if TYPE_CHECKING:
    from tqdm import tqdm

# The first units wait for models to be loaded: before this share of the total, no remaining time is shown for a while.
EARLY, EARLY_SECONDS = 0.02, 60

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
    """Return a subclass of tqdm whose lock belongs to this process, and whose bars are not in tqdm's own set.

    The default lock is shared with forked processes, and a process that is killed while it has the lock never frees it.
    With another lock the set of open bars must be another too: tqdm goes through it while other threads may add to it.
    """
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        monitor_interval = 0

        @property
        def format_dict(self) -> MutableMapping[str, Any]:
            facts: MutableMapping[str, Any] = super().format_dict
            done = facts["n"] - facts["initial"]
            if facts["total"] and done < EARLY * facts["total"] and facts["elapsed"] < EARLY_SECONDS:
                facts["bar_format"] = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}]"
            return facts

    bar_class: Any = Bar
    bar_class.set_lock(threading.RLock())
    bar_class._instances = WeakSet()
    return bar_class  # type: ignore[no-any-return]
