"""Skipped tests under CI=true: each has to be listed in tests/skips.txt, or the run fails.

The guarantee: no test that CI is meant to run drops out unnoticed because a package or a program is missing."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest

LIST = Path("tests", "skips.txt")


class Allowed(NamedTuple):
    """A line of the list: patterns, as of a shell, for the test's id and for the reason that it gives."""

    test: str
    reason: str


def read_list(path: Path) -> list[Allowed]:
    """The lines `test id | reason` of a file; blank ones and those that begin with # are notes."""
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    allowed = []
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            test, separator, reason = (part.strip() for part in line.partition(" | "))
            if not (test and separator and reason):
                raise pytest.UsageError(f"{path}, line {number}: expected `test id | reason`, found {line!r}")
            allowed.append(Allowed(test, reason))
    return allowed


def unlisted(skipped: Iterable[tuple[str, str]], allowed: list[Allowed]) -> list[tuple[str, str]]:
    """Those of (test id, reason) that no line of the list allows."""
    return [
        (test, reason)
        for test, reason in skipped
        if not any(fnmatchcase(test, line.test) and fnmatchcase(reason, line.reason) for line in allowed)
    ]


def _skipped(config: pytest.Config) -> list[tuple[str, str]]:
    """(test id, reason) of all that was skipped in this process and in its workers."""
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    reports = terminal.stats.get("skipped", []) if terminal else []
    return [(report.nodeid, report.longrepr[2].removeprefix("Skipped: ")) for report in reports]


def _offending(config: pytest.Config) -> list[tuple[str, str]]:
    if os.environ.get("CI", "").lower() not in ("true", "1") or hasattr(config, "workerinput"):
        return []
    return unlisted(_skipped(config), read_list(config.rootpath / LIST))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that would have passed with a skip which isn't listed."""
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and _offending(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name the skips that fail the run."""
    offending = _offending(config)
    if offending:
        terminalreporter.section(f"CI=true: {len(offending)} skipped, not listed in {LIST}", red=True)
    for test, reason in offending:
        terminalreporter.line(f"{test} | {reason}")
