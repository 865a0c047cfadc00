"""Run the command line as a user does: in a process of its own, with the fake teacher and encoder on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FAKES = ("--teacher", "tests.fakes:FakeTeacher", "--encoder", "tests.fakes:FakeEncoder")


def environment(**extra: Any) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **{k: str(v) for k, v in extra.items()}}


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *map(str, words)]


def armada(*words: Any, **extra: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), env=environment(**extra), capture_output=True, text=True, timeout=200)
