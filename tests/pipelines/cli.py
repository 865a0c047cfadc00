"""Run the command line as a user does: in a process of its own, with the fake teacher and encoder on its path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.pipelines.fork_server import run_forked

TIMEOUT_S = 200
ROOT = Path(__file__).resolve().parents[2]
FAKES = ("--teacher", "tests.fakes:FakeTeacher", "--encoder", "tests.fakes:FakeEncoder")


def environment(**extra: Any) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **{k: str(v) for k, v in extra.items()}}


def command(*words: Any) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *map(str, words)]


def ranks_command(ranks: int, module: str, *words: Any) -> list[str]:
    """`module` as so many processes, which meet on the loopback address even where this host's name doesn't resolve."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", ranks, "--local_addr", "127.0.0.1"]
    launcher += ["--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:0", "-m", module]
    return [sys.executable, *map(str, [*launcher, *words])]


def ranks_environment(**extra: Any) -> dict[str, str]:
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return environment(OMP_NUM_THREADS=1, GLOO_SOCKET_IFNAME=loopback, **extra)


def armada(*words: Any, **extra: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a process of its own, which is forked where nothing depends on its start."""
    forked = None if extra else run_forked([*map(str, words)], environment(), TIMEOUT_S)
    return forked or subprocess.run(
        command(*words), env=environment(**extra), capture_output=True, text=True, timeout=TIMEOUT_S
    )
