"""Commands as processes that need not import torch first: each is forked from a process that has imported it.

A command then begins in a tenth of a second and not in six seconds; it has its own process, environment, folder, exit
code and standard streams, as if it had been started. What a start itself has to show (signals, the time of `--help`,
what is imported) is tested with processes that are started.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from pipelines.study.runner import HEAVY

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = ("pipelines.cli", *HEAVY)
_in_use = threading.Lock()


def run_forked(
    words: list[str], environment: dict[str, str], timeout: float
) -> subprocess.CompletedProcess[str] | None:
    """Run `armada WORDS` in a fork; return None where the server is busy with another one or can't be had here."""
    if not hasattr(os, "fork") or not _in_use.acquire(blocking=False):
        return None
    try:
        with tempfile.TemporaryFile("w+") as request, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            json.dump({"words": words, "environment": environment, "folder": os.getcwd()}, request)
            request.flush()
            request.seek(0)
            channel = _channel()
            channel.settimeout(timeout)
            socket.send_fds(channel, [b"."], [file.fileno() for file in (request, out, err)])
            pid = int(channel.recv(32))
            try:
                code = int(channel.recv(32))
            except TimeoutError:
                os.kill(pid, 9)
                channel.settimeout(None)
                channel.recv(32)
                raise subprocess.TimeoutExpired(words, timeout) from None
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode().replace("\r\n", "\n"))
            return subprocess.CompletedProcess(words, code, *texts)
    finally:
        _in_use.release()


@functools.cache
def _channel() -> socket.socket:
    """Start the server of this process of tests; it ends when this process does."""
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "tests.pipelines.fork_server", str(theirs.fileno())]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    subprocess.Popen(words, env=environment, pass_fds=[theirs.fileno()], start_new_session=True, **streams)  # type: ignore[call-overload]
    theirs.close()
    return ours


def serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork a child per request and tell its number, then its exit code. Returns in a child, with the request."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while True:
        message, files, _, _ = socket.recv_fds(channel, 1, 3)
        if not message:
            return None
        pid = os.fork()
        if pid == 0:
            channel.close()
            for target, file in enumerate(files):
                os.dup2(file, target)
                os.close(file)
            request: dict[str, Any] = json.loads(sys.stdin.read())
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            return request
        for file in files:
            os.close(file)
        channel.send(b"%d" % pid)
        channel.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request:
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.path[0] = request["folder"]  # as of `python -m`
        sys.argv = ["armada", *request["words"]]
        sys.modules["__main__"] = sys.modules["pipelines.cli"]
        sys.modules["pipelines.cli"].main()
