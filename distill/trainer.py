"""The training loop of one student. Without a view's aligner it is plain fine-tuning; with one, the same loop with more
loss terms: student epoch e learns from aligner state e, frozen.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.aligner import Aligner, State
from distill.losses import Outputs, head_loss, student_loss
from distill.order import batches
from distill.students import StudentHeads, Tokens, pooled_and_logits
from teacher_cache import canonical_json, progress, sha256


@dataclass(frozen=True)
class TrainSettings:
    """All that decides a student's training beside its data and start. alpha, beta, gamma and temperature as in the
    paper; `manifold` is one of losses.MANIFOLD_LOSSES."""

    manifold: str = "cosine"
    alpha: float = 0.5
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 5.0
    epochs: int = 3
    batch_size: int = 32
    lr: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1  # of all steps; then the rate falls to zero in a line
    clip_norm: float = 1.0
    dropout: float = 0.1  # of the added heads
    max_length: int = 128  # tokens
    max_steps: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Teaching:
    """What the pictures give: features (N, L) on the training device, the aligner's states, and the data's digest."""

    features: Tensor
    states: Sequence[State]
    width: int  # of the aligner's hidden layers


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


class DistilledStudent(nn.Module):
    """The classifier and, while it is taught, the added heads. Returns outputs in float32."""

    def __init__(self, model: Any, heads: StudentHeads | None) -> None:
        super().__init__()
        self.model = model
        self.heads = heads

    def forward(self, tokens: dict[str, Tensor]) -> tuple[Tensor, Outputs | None]:
        """The task logits (B, C), and all outputs where there are added heads."""
        pooled, logits = pooled_and_logits(self.model, tokens)
        return logits, self.heads(pooled, logits) if self.heads else None


def train_student(
    model: Any,
    tokens: Tokens,
    labels: Sequence[int],
    settings: TrainSettings,
    *,
    data_digest: str,
    teaching: Teaching | None,
    checkpoint: Path,
    accelerator: Any,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train `model` in place. A checkpoint is written after every epoch; one of the same data and settings is taken up.

    `data_digest` decides the order of the rows together with the seed, so that arms of one seed see the same batches.
    """
    from transformers import get_linear_schedule_with_warmup

    device = accelerator.device
    heads = None
    if teaching:
        heads = StudentHeads(
            model.config.hidden_size, teaching.features.shape[1], model.config.num_labels, settings.dropout
        )
        heads.start(torch.Generator().manual_seed(settings.seed))
    student = DistilledStudent(model, heads)
    fused = device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=fused)
    per_epoch = -(-len(labels) // settings.batch_size)
    total = min(settings.epochs * per_epoch, settings.max_steps or settings.epochs * per_epoch)
    schedule = get_linear_schedule_with_warmup(optimizer, int(settings.warmup * total), total)
    student, optimizer = accelerator.prepare(student, optimizer)
    student.train()

    identity = sha256(canonical_json([asdict(settings), data_digest, teaching is not None]))
    saved = _Saved(checkpoint, identity, accelerator.unwrap_model(student), optimizer, schedule)
    torch.manual_seed(settings.seed)
    done = saved.load()
    target = torch.tensor(labels, device=device)
    with progress(total, "student", "step") as bar:
        step = sum(epoch.steps for epoch in done)
        bar.update(step)
        while step < total:
            epoch, started = len(done), time.monotonic()
            order = batches(
                len(labels),
                settings.batch_size,
                key=data_digest,
                seed=settings.seed,
                epoch=epoch,
                lengths=tokens.lengths,
            )[: total - step]
            lesson = _Lesson(teaching, teaching.states[epoch], model.config.num_labels) if teaching else None
            losses = []
            for rows in order:
                index = torch.from_numpy(rows).to(device)
                logits, outputs = student(tokens.batch(rows, device))
                terms = _loss(settings, logits, outputs, target[index], lesson, index)
                accelerator.backward(terms[0])
                accelerator.clip_grad_norm_(student.parameters(), settings.clip_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(terms.detach())  # stays on the device: no synchronisation in a step
                bar.update()
            step += len(order)
            means = torch.stack(losses).mean(0).tolist()
            means += [None] * (4 - len(means))
            done.append(Epoch(epoch, len(order), time.monotonic() - started, *means))
            saved.save(done)
            on_epoch(done[-1])
    return done


def _loss(
    settings: TrainSettings,
    logits: Tensor,
    outputs: Outputs | None,
    labels: Tensor,
    lesson: _Lesson | None,
    rows: Tensor,
) -> Tensor:
    """(total, task) of an undistilled step; (total, task, output alignment, manifold) of a distilled one."""
    if outputs is None or lesson is None:
        loss = head_loss(logits, labels)
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
    )
    return torch.stack(terms)


class _Lesson:
    """One epoch of the frozen aligner: its logits for all rows from one batched pass, its projections by the batch
    (all of them may not fit), and the projection of the features' mean."""

    @torch.no_grad()
    def __init__(self, teaching: Teaching, state: State, labels: int) -> None:
        self._features = teaching.features
        self._aligner = Aligner(teaching.features.shape[1], labels, teaching.width).eval()
        self._aligner.load_state_dict(state)
        self._aligner.to(teaching.features.device)
        parts = [self._aligner(part.float()) for part in torch.split(teaching.features, 4096)]
        self._logits = torch.cat([part.logits for part in parts])  # (N, C)
        self._aux_logits = torch.cat([part.aux_logits for part in parts])  # (N, C)
        self.center = self._aligner.project(teaching.features.float().mean(0, keepdim=True))[0]  # (L,)

    @torch.no_grad()
    def outputs(self, rows: Tensor) -> Outputs:
        """The aligner's outputs for these rows."""
        projection = self._aligner.project(self._features[rows].float())
        return Outputs(self._logits[rows], self._aux_logits[rows], projection)


class _Saved:
    """The checkpoint of a run: one file, replaced whole, read without unpickling code."""

    def __init__(self, path: Path, identity: str, student: nn.Module, optimizer: Any, schedule: Any) -> None:
        self._path = path
        self._identity = identity
        self._parts = {"student": student, "optimizer": optimizer, "schedule": schedule}

    def save(self, done: Sequence[Epoch]) -> None:
        """Replace the checkpoint by the present state."""
        state = {name: part.state_dict() for name, part in self._parts.items()}
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        draft = self._path.with_suffix(".draft")
        draft.parent.mkdir(parents=True, exist_ok=True)
        epochs = [asdict(epoch) for epoch in done]
        torch.save(
            {"identity": self._identity, "epochs": epochs, "rng": torch.get_rng_state(), "cuda": cuda, **state}, draft
        )
        os.replace(draft, self._path)

    def load(self) -> list[Epoch]:
        """Take up the checkpoint and return its epochs; empty where there is none of this run."""
        if not self._path.exists():
            return []
        state = torch.load(self._path, map_location="cpu", weights_only=True)
        if state["identity"] != self._identity:
            return []
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
        return [Epoch(**epoch) for epoch in state["epochs"]]
