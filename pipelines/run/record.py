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

from distill import Card, refuse_another
from pipelines.files import write_json
from pipelines.run.request import RunRequest

PACKAGES = ("armada-distill", "torch", "transformers", "accelerate", "peft", "bitsandbytes", "numpy", "pyarrow")


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

    from distill import processor_name

    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": _revision(),
        "machine": {
            "system": platform.platform(),
            "cpu": processor_name(),
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
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        words = ["git", "-C", str(here)]
        revision = subprocess.run([*words, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
        changes = subprocess.run([*words, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"revision": revision.strip(), "changed": bool(changes.strip())}


def facts_of(
    request: RunRequest, card: Card, metrics: Mapping[str, Mapping[str, float]], parameters: Mapping[str, int]
) -> dict[str, str]:
    """The model card's table."""
    settings = request.settings
    return {
        "task": card.name,
        "student": request.student,
        "arm": request.control or (settings.manifold if settings.objective == "armada" else settings.objective),
        "seed": str(settings.seed),
        "epoch picked by": {"last": "no split: the last one", "test": "the reported split, as the paper does"}.get(
            settings.select, settings.select
        ),
        **{f"test {name}": f"{value:.4f}" for name, value in metrics["test"].items()},
        "parameters": f"{parameters['student']:,}",
        "parameters added while training": f"{parameters['added_to_student']:,}",
        "parameters of the aligner": f"{parameters['aligner']:,}",
        "parameters added at inference": "0",
    }


def count_parameters(model: Any, teacher_targets: Any) -> dict[str, int]:
    """Parameters of the student, of what training adds to it, of the aligner, and of what inference adds: none."""
    from distill import pooled_width

    counts = {
        "student": model.num_parameters(),  # two to a byte where they are of four bits
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }
    if not teacher_targets:
        return {**counts, "added_to_student": 0, "aligner": 0, "added_at_inference": 0}
    width, labels = teacher_targets.projection_width, teacher_targets.classes
    heads = pooled_width(model) * width + (labels * (width + 1) if teacher_targets.has_aux_heads else 0)
    return {
        **counts,
        "added_to_student": heads,
        "aligner": teacher_targets.aligner_parameters,
        "added_at_inference": 0,
    }
