"""The training loop of one student. Without a teacher it is plain fine-tuning; with one, the same loop has more loss
terms, and student epoch e learns from the frozen state of the aligner after its epoch e.

A run that is stopped anywhere, in the middle of an epoch too, resumes from its last checkpoint and computes what an
uninterrupted run would have computed, to the bit on the CPU. Any number of ranks computes the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill.dataset.tokens import Tokens
from distill.objective.finite import refuse_not_finite
from distill.objective.targets import Targets
from distill.settings import TrainSettings, changes
from distill.training.checkpoints import Checkpoints, Identity
from distill.training.distributed import wait_for_all
from distill.training.metrics_log import TERMS, MetricsLog
from distill.training.steps import Steps
from teacher_cache import progress

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel

CHECK_STEPS = 50


@dataclass(frozen=True)
class Epoch:
    """Mean losses of an epoch, each term unweighted; None for the terms that an undistilled run doesn't have."""

    epoch: int
    steps: int
    seconds: float
    loss: float
    task: float
    output_alignment: float | None
    manifold: float | None


@dataclass(frozen=True)
class CheckpointConfig:
    """Where and how often a run is saved; no part of its result depends on this. Besides the settings and the digest of
    the data, `identity` tells this run from others."""

    checkpoints: Path
    metrics_log: Path | None = None
    save_steps: int = 500  # the end of an epoch is saved in any case
    keep: int = 2  # checkpoints
    identity: Identity = field(default_factory=dict)


def train_student(
    model: PreTrainedModel,
    tokens: Tokens,
    labels: Sequence[float],
    settings: TrainSettings,
    *,
    data_digest: str,
    teacher_targets: Targets | None,
    checkpoint_config: CheckpointConfig,
    accelerator: Accelerator,
    first: Sequence[int] | None = None,
    on_epoch: Callable[[Epoch], bool] = lambda epoch: False,
    on_step: Callable[[int], None] = lambda step: None,
) -> list[Epoch]:
    """Train `model` in place and return its epochs.

    Args:
        model: The student; a stock Hugging Face model.
        tokens: Its training rows, tokenized (N).
        labels: Class ids, or floats for a model of one output (N,).
        settings: What decides the training.
        data_digest: With the seed it decides the order of the rows, so that arms of one seed see the same batches.
        checkpoint_config: Where and how often the run is saved.
        accelerator: The processes, the device and the precision.
        teacher_targets: What the student learns from besides its labels; None for plain fine-tuning.
        first: For a language model, the first tokens of its answers; a label is then a place among them.
        on_epoch: Called on every rank after the epoch's checkpoint is written; the run ends if it returns True, on
            every rank. A run that is resumed there calls it again with that epoch, so that one that was killed in it
            trains no step again.
        on_step: Called after every step with its number.

    Raises ArmadaError if the checkpoints belong to another run, or at a step whose loss or gradient is not finite; the
    checkpoint before it is kept.
    """
    steps = Steps(model, tokens, labels, settings, data_digest, teacher_targets, accelerator, first)
    identity = {"settings": changes(settings), "data": data_digest, "taught": teacher_targets is not None}
    records = _Records(steps, checkpoint_config, {**checkpoint_config.identity, **identity}, accelerator)
    place = records.resume()
    stopped = False
    if place.epochs and place.step == place.epoch_start:
        steps.give_back()
        stopped = on_epoch(place.epochs[-1])
    with progress(steps.total, "student", "step", place.step) as bar:
        while place.step < steps.total and not stopped:
            epoch, started = len(place.epochs), time.monotonic() - place.seconds
            end = min(place.epoch_start + len(steps.loader), steps.total)
            epoch_targets = teacher_targets.of_epoch(epoch, accelerator.device) if teacher_targets else None
            for batch in steps.loader:
                values = steps.step(batch, epoch_targets)  # stays on the device: nothing waits for it
                place.losses.append(values[:-1])
                place.step += 1
                records.check(place, values)
                bar.update()
                on_step(place.step)
                if place.step % checkpoint_config.save_steps == 0 and place.step < end:
                    place.seconds = time.monotonic() - started
                    records.write_metrics(place)
                    records.save(place)
                if place.step == steps.total:  # perhaps before the epoch's end
                    break
            records.write_metrics(place)
            done = _epoch(place, time.monotonic() - started)
            place = _Place(place.step, [*place.epochs, done], place.step)
            records.save(place)
            steps.give_back()
            stopped = on_epoch(done)
    return place.epochs


class _Records:
    """What a run writes while it trains: its metrics log, its trackers and its checkpoints."""

    def __init__(self, steps: Steps, config: CheckpointConfig, identity: Identity, accelerator: Accelerator) -> None:
        self._steps, self._accelerator = steps, accelerator
        self._checkpoints = Checkpoints(config.checkpoints, identity, config.keep)
        self._log = MetricsLog(config.metrics_log if accelerator.is_main_process else None)
        self._logged = 0  # steps in the metrics log
        self._saved = 0  # steps in the newest checkpoint
        self._unchecked: list[Tensor] = []  # losses and gradient norms of the last steps

    def resume(self) -> _Place:
        """Load the newest checkpoint and cut the metrics log to it; the start of the run if there is none."""
        place = _resume(self._steps, self._checkpoints.load(), self._accelerator.device)
        self._log.cut(place.step)
        self._logged = self._saved = place.step
        return place

    def check(self, place: _Place, values: Tensor) -> None:
        """Raise ArmadaError if a loss or a gradient is not finite; a GPU is waited for every CHECK_STEPS steps only."""
        self._unchecked.append(values)
        if values.device.type == "cpu" or len(self._unchecked) >= CHECK_STEPS:
            self._check(place)

    def _check(self, place: _Place) -> None:
        if self._unchecked:
            before, values = place.step - len(self._unchecked), torch.stack(self._unchecked)
            names = (*TERMS[: values.shape[1] - 1], "gradient")
            kept = f" (the checkpoint of step {self._saved} is kept)" if self._saved else ""
            refuse_not_finite(values, before, "student", names=names, kept=kept)
            self._unchecked.clear()

    def write_metrics(self, place: _Place) -> None:
        """Log the losses of the steps since the last call."""
        self._check(place)
        losses = place.losses[self._logged - place.epoch_start :]
        values = torch.stack(losses).tolist() if losses else []
        for row in self._log.write(self._logged, len(place.epochs), values):
            self._accelerator.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))
        self._logged = place.step

    def save(self, place: _Place) -> None:
        """Write a checkpoint; every rank has to call it."""
        state = self._steps.state_dict()
        if self._accelerator.is_main_process:
            self._checkpoints.save(place.step, {**state, "place": _as_dict(place)})
        wait_for_all(self._accelerator)
        self._saved = place.step


def _epoch(place: _Place, seconds: float) -> Epoch:
    """The epoch that ends at this place: its mean losses."""
    means: list[float] = torch.stack(place.losses).mean(0).tolist()
    return Epoch(len(place.epochs), place.step - place.epoch_start, seconds, *means, *[None] * (4 - len(means)))


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
