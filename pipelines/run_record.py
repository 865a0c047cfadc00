"""The record of a run, `run.json`: what decided it, what came of it, where it was made. Written last, so that a run
whose record stands is finished.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from distill.checkpoints import refuse_another
from pipelines.output import write_json

PACKAGES = ("armada-distill", "torch", "transformers", "accelerate", "peft", "numpy", "pyarrow")


@dataclass(frozen=True)
class RunResult:
    """The test metrics of a finished run, and the seconds its student took to train."""

    metrics: dict[str, float]
    validation: dict[str, float]
    train_seconds: float
    reused: bool  # the run was in its folder already


def finished(out: Path, identity: Mapping[str, Any]) -> RunResult | None:
    """The result of the run in a folder; None where there is none. Raises ArmadaError where it is of another run."""
    path = out / "run.json"
    if not path.exists():
        return None
    run = json.loads(path.read_text("utf-8"))
    refuse_another(run["identity"], json.loads(json.dumps(identity)), str(path))
    return RunResult(run["metrics"]["test"], run["metrics"]["validation"], run["train_seconds"], True)


def write_record(out: Path, record: Mapping[str, Any]) -> RunResult:
    """Write `run.json` whole and return the run's result."""
    write_json(out / "run.json", {**record, **surroundings()})
    return RunResult(record["metrics"]["test"], record["metrics"]["validation"], record["train_seconds"], False)


def surroundings() -> dict[str, Any]:
    """Software and hardware, which decide no identity but may explain a difference."""
    import torch

    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": _revision(),
        "machine": {
            "system": platform.platform(),
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": devices,
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _revision() -> dict[str, Any] | None:
    """The revision of the checkout that this code runs from; None where it is installed."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    try:
        words = ["git", "-C", str(here)]
        revision = subprocess.run([*words, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        changes = subprocess.run([*words, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"revision": revision.strip(), "changed": bool(changes.strip())}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
