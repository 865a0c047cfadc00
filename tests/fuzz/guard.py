"""What a reader of foreign bytes may do: return or raise ArmadaError, in bounded time and memory, and touch nothing.

While a guard is on, the interpreter's audit events of this thread are watched: a file opened for writing outside the
allowed folder, a class looked up by pickle, a process started and a connection made are faults of the reader.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 20.0  # of processor time for one input, so that a busy machine makes no fault
MEGABYTES = 400  # that one input may add to the process's memory
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NEVER = ("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")


class Misconduct(BaseException):
    """A reader did what reading never needs. It is no Exception, so that no reader can swallow it."""


class _Watch:
    def __init__(self) -> None:
        self.folder, self.thread, self.is_installed = "", 0, False
        self.faults: list[str] = []

    def install(self) -> None:
        if not self.is_installed:  # a hook can't be removed; it does nothing while `thread` is 0
            sys.addaudithook(self.hook)
            self.is_installed = True

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.thread or threading.get_ident() != self.thread:
            return
        if event in _NEVER:
            self.faults.append(f"{event} {arguments!r}"[:300])
        elif event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES:
                self.check(event, path)
        elif event in _CHANGES:
            self.check(event, _path_in(arguments))

    def check(self, event: str, path: Any) -> None:
        if isinstance(path, (str, bytes, os.PathLike)):
            full = os.path.abspath(os.fsdecode(path))
            if not full.startswith(self.folder) and full != os.devnull:
                self.faults.append(f"{event} {full}")


def _path_in(arguments: tuple[Any, ...]) -> Any:
    """Return the path of an event; one that is relative to an open folder, with that folder."""
    path, folder = arguments[0], arguments[-1]
    if isinstance(path, str) and isinstance(folder, int) and folder > 2 and not os.path.isabs(path):
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return path


_watch = _Watch()


@contextmanager
def guarded(folder: Path, megabytes: int = MEGABYTES) -> Iterator[None]:
    """Raise Misconduct if what runs inside writes outside `folder`, unpickles, starts a process, connects, computes for
    longer than SECONDS or takes more than `megabytes` of memory."""
    _watch.install()
    _watch.folder, _watch.faults = os.path.abspath(folder) + os.sep, []
    before = _reset_peak()
    old = signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    _watch.thread = threading.get_ident()
    try:
        yield
    finally:
        _watch.thread = 0
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)
    if _watch.faults:
        raise Misconduct(f"the reader did what reading never needs: {_watch.faults[0]}")
    if (grown := _peak() - before) > megabytes and before:
        raise Misconduct(f"the reader took {grown} MB of memory; at most {megabytes} are expected")


def _too_long(*signal_and_frame: Any) -> None:
    raise Misconduct(f"the reader computed for more than {SECONDS:g} s")


def _reset_peak() -> int:
    """Let the peak of this process's memory start at what it takes now; return it in MB, 0 where that can't be done."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return _peak()


def _peak() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) >> 10
