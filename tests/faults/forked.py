"""Run a function in a forked child that may be killed at any moment.

A fork imports nothing again, so that 200 kills take seconds.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any


def start(function: Callable[[], Any], **environment: str) -> int:
    """Run a function in a child and return its process id. Its output is discarded; an error gives exit code 1."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        os.environ.update(environment)
        function()
        code = 0
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Wait for a child. Return its exit code, or minus the signal that killed it."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def killed_after(function: Callable[[], Any], seconds: float, **environment: str) -> bool:
    """Run a function and kill it after some seconds. Return whether it was killed before it ended."""
    child = start(function, **environment)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert os.waitstatus_to_exitcode(status) == 0, "the function failed by itself"
            return False
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    return wait(child) == -signal.SIGKILL
