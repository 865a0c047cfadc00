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
from typing import TYPE_CHECKING, Any

from distill import refuse_another
from pipelines.files import read_json, write_json
from pipelines.run.request import RunRequest

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distill import Precision, Split, Splits, TaskModel

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
    run = read_json(path, "armada train", identity=dict, metrics=dict, train_seconds=float | int)
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


def trained_on(train: Split, splits: Splits, task_model: TaskModel) -> dict[str, Any]:
    """What was trained on and what was left out: rows, tokens, weights."""
    weights = task_model.model.loaded_weights
    return {
        "rows": {"train": len(train), "validation": len(splits.validation), "test": len(splits.test)},
        "held_out": splits.held_out,
        "dropped": splits.dropped,
        "truncated": task_model.tokens.truncated,
        "answers_cut": task_model.answers_cut,
        "weights": {"new": list(weights.new), "unused": list(weights.unused)},
    }


def computation_of(request: RunRequest, precision: Precision, accelerator: Accelerator) -> dict[str, Any]:
    """How the run was computed, which decides no identity either."""
    return {
        "precision": precision.used,
        "precision_reason": precision.reason,
        "gradient_checkpointing": request.gradient_checkpointing,
        "compiled": request.compile,
        "device": str(accelerator.device),
        "ranks": accelerator.num_processes,
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
