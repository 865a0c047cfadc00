"""The command line in this process, so that a test of a build takes no second to start."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipelines import cli


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """Return a function that runs a command and returns its exit code, output (of --json as an object) and errors."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(cli, "_end_at_once", lambda: None)  # this process, which may have threads, runs the next test

    def command(*words: Any) -> tuple[int, Any, str]:
        monkeypatch.setattr(sys, "argv", ["armada", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        code = int(end.value.code or 0)
        is_json = "--json" in words and printed.out
        return code, json.loads(printed.out) if is_json else printed.out, printed.err

    yield command
    for number, handler in handlers.items():
        signal.signal(number, handler)
