"""Work in a forked child that may be killed at any moment: imports are paid once, so that 200 kills take seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any


def start(work: Callable[[], Any], **environment: str) -> int:
    """Run `work` in a child and return its process id. The child's output goes nowhere; an error is exit code 1."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.environ.update(environment)
        work()
        code = 0
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The exit code, or minus the signal that ended the child."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def killed_after(work: Callable[[], Any], seconds: float, **environment: str) -> bool:
    """Run `work` and kill it after so many seconds; whether it was killed before it ended."""
    child = start(work, **environment)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0, "the work failed by itself"
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return wait(child) == -signal.SIGKILL
