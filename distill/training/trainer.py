"""The training loop of one student. Without teaching it is plain fine-tuning; with it, the same loop with more loss
terms: student epoch e learns from aligner state e, frozen.

Stopped anywhere and started again it goes on from its last checkpoint, in the middle of an epoch too, and computes what
an unbroken run would have: to the bit on the CPU. Any number of ranks computes the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.dataset.tokens import Tokens
from distill.objective.targets import EpochTargets, TeacherTargets
from distill.settings import TrainSettings
from distill.training.checkpoints import Checkpoints, Identity
from distill.training.metrics_log import MetricsLog
from distill.training.steps import Steps
from teacher_cache import progress


@dataclass(frozen=True)
class Epoch:
    """Mean losses of an epoch, unweighted terms; None for what an undistilled run doesn't have."""

    epoch: int
    steps: int
    seconds: float
    loss: float
    task: float
    output_alignment: float | None
    manifold: float | None


@dataclass(frozen=True)
class CheckpointConfig:
    """Where a run is kept and how often; it decides nothing of its result. `identity` says, beside the settings and the
    data's digest, what run it is."""

    checkpoints: Path
    metrics_log: Path | None = None
    save_steps: int = 500  # an epoch's end is kept in any case
    keep: int = 2  # checkpoints
    identity: Identity = field(default_factory=dict)


def train_student(
    model: Any,
    tokens: Tokens,
    labels: Sequence[float],
    settings: TrainSettings,
    *,
    data_digest: str,
    teacher_targets: TeacherTargets | None,
    checkpoint_config: CheckpointConfig,
    accelerator: Any,
    first: Sequence[int] | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Epoch]:
    """Train `model` in place and return its epochs. `labels` are class ids, or floats for a model of one output. With
    `first` the model is a language model and a label is a place among these first tokens of answers.

    `data_digest` decides the order of the rows together with the seed, so that arms of one seed see the same batches.
    `on_epoch` is called on every rank before the epoch's checkpoint, so a run that dies in it calls it again; `on_step`
    after every step. Raises ArmadaError where the checkpoints are of another run.
    """
    steps = Steps(model, tokens, labels, settings, data_digest, teacher_targets, accelerator, first)
    identity = {
        **checkpoint_config.identity,
        "settings": asdict(settings),
        "data": data_digest,
        "taught": teacher_targets is not None,
    }
    checkpoints = Checkpoints(checkpoint_config.checkpoints, identity, checkpoint_config.keep)
    is_main = accelerator.is_main_process
    metrics_log = MetricsLog(checkpoint_config.metrics_log if is_main else None)
    place = _resume(steps, checkpoints.load(), accelerator.device)
    metrics_log.cut(place.step)
    written = place.step

    def keep() -> None:
        nonlocal written
        losses = place.losses[written - place.epoch_start :]
        for row in metrics_log.write(written, len(place.epochs), torch.stack(losses).tolist() if losses else []):
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))
        written = place.step

    def save() -> None:
        state = steps.state_dict()  # all ranks take part
        if is_main:
            checkpoints.save(place.step, {**state, "place": _as_dict(place)})
        accelerator.wait_for_everyone()

    with progress(steps.total, "student", "step", place.step) as bar:
        while place.step < steps.total:
            epoch, started = len(place.epochs), time.monotonic() - place.seconds
            end = min(place.epoch_start + len(steps.loader), steps.total)
            epoch_targets = EpochTargets(teacher_targets, epoch, accelerator.device) if teacher_targets else None
            for batch in steps.loader:
                place.losses.append(
                    steps.step(batch, epoch_targets)
                )  # stays on the device: no synchronisation in a step
                place.step += 1
                bar.update()
                on_step(place.step)
                if place.step % checkpoint_config.save_steps == 0 and place.step < end:
                    place.seconds = time.monotonic() - started
                    keep()
                    save()
                if place.step == steps.total:  # perhaps before the epoch's end
                    break
            keep()
            means: list[Any] = torch.stack(place.losses).mean(0).tolist()
            means += [None] * (4 - len(means))
            done = Epoch(epoch, end - place.epoch_start, time.monotonic() - started, *means)
            steps.give_back()
            on_epoch(done)
            place = _Place(place.step, [*place.epochs, done], place.step)
            save()
    return place.epochs


@dataclass
class _Place:
    """How far a run is: whole epochs, and the steps of the one that is begun."""

    step: int
    epochs: list[Epoch]
    epoch_start: int  # the step that the begun epoch starts after
    losses: list[Tensor] = field(default_factory=list)  # of the begun epoch's steps, (2,) or (4,) each
    seconds: float = 0.0  # spent on it


def _as_dict(place: _Place) -> dict[str, Any]:
    losses = [loss.cpu() for loss in place.losses]
    return {**vars(place), "epochs": [asdict(epoch) for epoch in place.epochs], "losses": losses}


def _resume(steps: Steps, found: tuple[int, dict[str, Any]] | None, device: torch.device) -> _Place:
    """Take up a checkpoint; the start of the run where there is none."""
    steps.start()
    if found is None:
        return _Place(0, [], 0)
    step, state = found
    steps.load_state_dict(state, step)
    place = _Place(**state["place"])
    place.epochs = [Epoch(**epoch) for epoch in state["place"]["epochs"]]
    place.losses = [loss.to(device) for loss in state["place"]["losses"]]
    return place
