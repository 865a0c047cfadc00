"""Workers as processes of this machine, which share its spool. Run as a program, this module is one of them.

A worker whose coordinator dies finishes its calls, commits and ends. Ctrl-C in a terminal reaches only the coordinator.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from teacher_cache.crews.messages import Order, Report, Setup
from teacher_cache.crews.worker import Worker

_TICK_S = 0.05  # between two looks for orders
_PATIENCE_S = 10.0  # for a worker that was told to end
_sending = threading.Lock()  # of a worker's threads, for its connection


class LocalCrew:
    """Workers as processes, as many as `size`. The threads of the numeric libraries are shared out among them, unless
    OMP_NUM_THREADS is set."""

    shares_spool = True

    def __init__(self, size: int) -> None:
        self.size = size
        self._handles: list[_Process] = []

    def __enter__(self) -> LocalCrew:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.close()

    def prepare(self, setup: Setup) -> None:
        """Do nothing: the spool is the coordinator's."""

    def start(self, setup: Setup) -> _Process:
        """Start a process."""
        threads = str(max(1, (os.cpu_count() or 1) // self.size))
        handle = _Process(setup, {"OMP_NUM_THREADS": threads, **os.environ})
        self._handles.append(handle)
        return handle


class _Process:
    """One worker's process, and the connection to it."""

    def __init__(self, setup: Setup, environment: dict[str, str]) -> None:
        self._connection, other = Pipe()
        # The same import path as here, and not the one that `python -m` makes: the working folder may hold any name.
        program = (
            f"import sys; sys.path[:] = {json.dumps(sys.path)}; from teacher_cache.crews.processes import main; "
            f"main({other.fileno()})"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", program],
            pass_fds=(other.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else None,
            env=environment,
            start_new_session=True,
        )
        other.close()
        self._report = Report()
        self._connection.send(setup)

    def send(self, order: Order) -> None:
        """Send an order."""
        try:
            self._connection.send(order)
        except OSError:  # it is dead
            return

    def report(self) -> Report:
        """Return the newest report."""
        try:
            while self._connection.poll():
                self._report = self._connection.recv()
        except (EOFError, OSError):
            return self._report
        return self._report

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Let the process end, and kill it if it does not."""
        self._connection.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _has_descriptor(stream: Any) -> bool:
    try:
        return isinstance(stream.fileno(), int)
    except (OSError, ValueError, AttributeError):  # of a test, or of a notebook
        return False


def main(descriptor: int) -> None:
    """Be a worker: the setup comes first, then orders; reports go back."""
    connection = Connection(descriptor)
    worker = Worker(connection.recv())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=worker.stop).start())  # it may hold a lock here
    threading.Thread(target=_talk, args=(connection, worker), daemon=True).start()
    worker.run()
    _send(connection, worker.report())


def _talk(connection: Any, worker: Worker) -> None:
    sent = Report()
    while True:
        try:
            if connection.poll(_TICK_S):
                worker.give(connection.recv())
        except (EOFError, OSError):
            worker.stop()
            return
        report = worker.report()
        if report.has_ended:
            return
        if report != sent and _send(connection, report):
            sent = report
        time.sleep(_TICK_S / 5)


def _send(connection: Any, report: Report) -> bool:
    with _sending:
        try:
            connection.send(report)
            return True
        except OSError:  # the coordinator is gone
            return False
