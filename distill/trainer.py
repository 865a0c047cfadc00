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

import numpy as np
import torch
from torch import Tensor

from distill.checkpoints import Checkpoints, Identity
from distill.distilled import DistilledStudent, Said
from distill.journal import Journal
from distill.lesson import Lesson, Teaching
from distill.losses import head_loss, student_loss
from distill.order import batches, share
from distill.ranks import gather_rows, rng_states, set_rng_state
from distill.settings import TrainSettings
from distill.students import StudentHeads
from distill.tokens import Tokens
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
class Keeping:
    """Where a run is kept and how often; it decides nothing of its result. `identity` says, beside the settings and the
    data's digest, what run it is."""

    checkpoints: Path
    journal: Path | None = None
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
    teaching: Teaching | None,
    keeping: Keeping,
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
    loop = _Loop(model, tokens, labels, settings, data_digest, teaching, accelerator, first)
    identity = {**keeping.identity, "settings": asdict(settings), "data": data_digest, "taught": teaching is not None}
    checkpoints = Checkpoints(keeping.checkpoints, identity, keeping.keep)
    is_main = accelerator.is_main_process
    journal = Journal(keeping.journal if is_main else None)
    place = loop.resume(checkpoints.load())
    journal.cut(place.step)
    written = place.step

    def keep() -> None:
        nonlocal written
        losses = place.losses[written - place.epoch_start :]
        for row in journal.write(written, len(place.epochs), torch.stack(losses).tolist() if losses else []):
            accelerator.log({name: value for name, value in row.items() if name != "step"}, step=int(row["step"]))
        written = place.step

    def save() -> None:
        state = loop.state(place)  # all ranks take part
        if is_main:
            checkpoints.save(place.step, state)
        accelerator.wait_for_everyone()

    with progress(loop.total, "student", "step") as bar:
        bar.update(place.step)
        while place.step < loop.total:
            epoch, started = len(place.epochs), time.monotonic() - place.seconds
            order = loop.order(epoch)[: loop.total - place.epoch_start]
            lesson = Lesson(teaching, epoch) if teaching else None
            for rows in order[place.step - place.epoch_start :]:
                place.losses.append(loop.step(rows, lesson))  # stays on the device: no synchronisation in a step
                place.step += 1
                bar.update()
                on_step(place.step)
                if place.step % keeping.save_steps == 0 and place.step - place.epoch_start < len(order):
                    place.seconds = time.monotonic() - started
                    keep()
                    save()
            keep()
            means: list[Any] = torch.stack(place.losses).mean(0).tolist()
            means += [None] * (4 - len(means))
            done = Epoch(epoch, len(order), time.monotonic() - started, *means)
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


class _Loop:
    """The student under training, its optimiser and its schedule."""

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        labels: Sequence[float],
        settings: TrainSettings,
        data_digest: str,
        teaching: Teaching | None,
        accelerator: Any,
        first: Sequence[int] | None,
    ) -> None:
        self._settings, self._tokens, self._key = settings, tokens, data_digest
        self._accelerator = accelerator
        self._rank, self._ranks = accelerator.process_index, accelerator.num_processes
        device = accelerator.device
        self._labels = torch.tensor(labels, device=device)
        heads = None
        if teaching:
            classes, features = len(teaching.states[0]["head.bias"]), teaching.features.shape[1]
            heads = StudentHeads(pooled_width(model), features, classes, settings.dropout)
            heads.start(torch.Generator().manual_seed(settings.seed))
        student = DistilledStudent(model, heads, first)
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=settings.lr, weight_decay=settings.weight_decay, fused=device.type in ("cpu", "cuda")
        )
        per_epoch = -(-len(labels) // settings.batch_size)
        self.total = min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)
        self._schedule = _schedule(optimizer, settings, self.total)
        self._student, self._optimizer = accelerator.prepare(student, optimizer)
        self._bare = accelerator.unwrap_model(self._student)
        self._trained = trained
        self._student.train()

    def order(self, epoch: int) -> list[np.ndarray]:
        """The epoch's batches of row numbers, over all ranks."""
        settings = self._settings
        lengths = self._tokens.lengths if settings.by_length else None
        return batches(
            len(self._labels),
            settings.batch_size,
            key=self._key,
            seed=settings.seed,
            epoch=epoch,
            lengths=lengths,
        )

    def step(self, rows: np.ndarray, lesson: Lesson | None) -> Tensor:
        """One optimiser step over a batch's (B,) row numbers; its losses, (2,) or (4,) on the device."""
        parts = np.array_split(rows, min(self._settings.accumulate, len(rows)))
        losses = []
        for number, part in enumerate(parts, 1):
            weight = len(part) / len(rows)
            if number < len(parts):
                with self._accelerator.no_sync(self._student):
                    losses.append(weight * self._backward(part, lesson, weight))
            else:
                losses.append(weight * self._backward(part, lesson, weight))
        torch.nn.utils.clip_grad_norm_(self._trained, self._settings.clip_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).sum(0)

    def _backward(self, rows: np.ndarray, lesson: Lesson | None, weight: float) -> Tensor:
        device = self._accelerator.device
        own = share(rows, self._rank, self._ranks)[0]
        said = self._student(self._tokens.batch(own, device))
        if self._ranks > 1:
            said = self._gather(len(rows), said)
        index = torch.from_numpy(rows).to(device, non_blocking=True)
        terms = _loss(self._settings, said, self._labels[index], lesson, index)
        self._accelerator.backward(terms[0] * (weight * self._ranks))
        return terms.detach()

    def _gather(self, rows: int, said: Said) -> Said:
        widths = [0 if column is None else column.shape[1] for column in said]
        own = [share(np.arange(rows), rank, self._ranks)[1] for rank in range(self._ranks)]
        whole = gather_rows(torch.cat([column for column in said if column is not None], 1), own, self._rank)
        return Said(*(part if part.shape[1] else None for part in torch.split(whole, widths, 1)))  # type: ignore[arg-type]

    def state(self, place: _Place) -> dict[str, Any]:
        """All that the next step depends on. Frozen weights are not in it: the run's start holds them."""
        weights = {name: value for name, value in self._bare.named_parameters() if value.requires_grad}
        return {
            "weights": {name: value.detach() for name, value in weights.items()} | dict(self._bare.named_buffers()),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "rng": rng_states(self._accelerator),
            "epochs": [asdict(epoch) for epoch in place.epochs],
            "epoch_start": place.epoch_start,
            "losses": [loss.cpu() for loss in place.losses],
            "seconds": place.seconds,
        }

    def resume(self, found: tuple[int, dict[str, Any]] | None) -> _Place:
        """Take up a checkpoint; the start of the run where there is none."""
        seed = self._settings.seed + 1_000_003 * self._rank
        torch.manual_seed(seed)
        if found is None:
            return _Place(0, [], 0)
        step, state = found
        self._bare.load_state_dict(state["weights"], strict=False)
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        set_rng_state(state["rng"], self._rank, seed + step)
        losses = [loss.to(self._accelerator.device) for loss in state["losses"]]
        epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        return _Place(step, epochs, state["epoch_start"], losses, state["seconds"])


def pooled_width(model: Any) -> int:
    """H, the width of the student's pooled output."""
    return int(getattr(model.config, "word_embed_proj_dim", None) or model.config.hidden_size)


def _schedule(optimizer: Any, settings: TrainSettings, total: int) -> Any:
    from transformers import get_scheduler

    name = "constant_with_warmup" if settings.schedule == "constant" else "linear"
    return get_scheduler(name, optimizer, int(settings.warmup * total), total)


def _loss(
    settings: TrainSettings,
    said: Said,
    labels: Tensor,
    lesson: Lesson | None,
    rows: Tensor,
) -> Tensor:
    """(total, task) of an undistilled step; (total, task, output alignment, manifold) of a distilled one."""
    outputs = said.outputs
    if outputs is None or lesson is None:
        loss = head_loss(said.logits, labels) if said.head is None else said.head
        return torch.stack([loss, loss])
    terms = student_loss(
        lesson.outputs(rows),
        outputs,
        labels,
        manifold=settings.manifold,
        alpha=settings.alpha,
        beta=settings.beta,
        gamma=settings.gamma,
        temperature=settings.temperature,
        center=lesson.center,
        head=said.head,
    )
    return torch.stack(terms)
