"""Ray binds to the machine's own address whatever it is told, so that its tests run in a network namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.cli import ROOT


def has_namespaces() -> bool:
    """Return whether a network namespace with a loopback address can be made here."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return not subprocess.run(["unshare", "-n", "ip", "link", "set", "lo", "up"], capture_output=True).returncode


def run_with_ray(module: str, *arguments: object, seconds: float = 1700) -> dict[str, Any]:
    """Run a module that starts a Ray cluster, in a namespace of its own, and return the JSON that it prints last."""
    pytest.importorskip("ray")
    if not has_namespaces():
        pytest.skip("no network namespace can be made here")
    program = [sys.executable, "-m", module, *map(str, arguments)]
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:  # for sockets
        done = subprocess.run(
            ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *program],
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "RAY_TMPDIR": short},
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def processes(name: str, variable: str) -> list[int]:
    """Return the processes that Ray calls by a name and that have a variable, `NAME=VALUE`: those of one test."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_named = (folder / "cmdline").read_bytes().startswith(f"ray::{name}".encode())
            if is_named and f"{variable}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it has ended, or is another user's
            continue
    return sorted(found)
