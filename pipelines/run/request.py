"""What `armada train` was asked for, checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from distill import MANIFOLD_LOSSES, UNDISTILLED, AlignerSettings, TrainSettings, find_control, is_random
from teacher_cache import ArmadaError


@dataclass(frozen=True)
class RunRequest:
    """What `armada train` was asked for. `control` is None or one of `distill.CONTROL_NAMES`."""

    task: str
    student: str
    out: Path
    cache: str | None = None
    teacher: str | None = None
    encoder: str | None = None
    control: str | None = None
    data_file: Path | None = None
    drop_missing: bool = False
    samples: int = 1  # pictures a prompt
    combine: str = "mean"  # of their features; or "draw": one an epoch
    layers: int | None = None
    lora_rank: int | None = None
    lora_targets: tuple[str, ...] | None = None
    load_4bit: bool = False
    settings: TrainSettings = field(default_factory=TrainSettings)
    aligner: AlignerSettings = field(default_factory=AlignerSettings)
    save_steps: int = 500
    keep: int = 2
    max_local_bytes: int | None = None  # larger features are read in windows of shards
    trackers: tuple[str, ...] = ()  # of accelerate, for example tensorboard


def check_request(request: RunRequest) -> None:
    """Raise ArmadaError for an option that can't be."""
    find_control(request.control)
    settings = request.settings
    choices = {
        "manifold": (settings.manifold, MANIFOLD_LOSSES),
        "schedule": (settings.schedule, ("linear", "constant")),
        "select": (settings.select, ("last", "validation", "test")),
        "combine": (request.combine, ("mean", "draw")),
    }
    for name, (found, expected) in choices.items():
        if found not in expected:
            raise ArmadaError(f"--{name}: expected one of {', '.join(expected)}, found {found!r}")
    if not 0 <= settings.alpha <= 1:
        raise ArmadaError(f"--alpha: expected a number from 0 to 1, found {settings.alpha}")
    for name in ("epochs", "batch_size", "accumulate", "lr", "temperature"):
        if getattr(settings, name) <= 0:
            raise ArmadaError(f"--{name.replace('_', '-')}: expected more than 0, found {getattr(settings, name)}")
    if request.samples < 1:
        raise ArmadaError(f"--samples: expected more than 0, found {request.samples}")
    if request.samples > 1 and request.max_local_bytes is not None:
        raise ArmadaError("--samples: several pictures a prompt are joined in memory; leave out --max-local-bytes")
    if request.load_4bit and not request.lora_rank:
        raise ArmadaError("--load-4bit: expected --lora-rank N beside it: weights of four bits don't train")
    if request.load_4bit and is_random(request.student):
        raise ArmadaError(f"--load-4bit: expected a student with weights of its own, found {request.student}")
    if request.control != UNDISTILLED and not request.cache:
        raise ArmadaError("--cache URL is missing; only --control undistilled needs none")
