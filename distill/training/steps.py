"""Optimiser steps of a student: a step takes one batch over all ranks and returns its losses.

Without a teacher, a step is plain fine-tuning. It depends neither on the number of ranks nor, but for the manifold
loss, on the parts that a batch is split into to save memory. That of a classifier doesn't synchronise with the device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from distill.dataset.loader import Batch, Loader
from distill.dataset.moving import moved
from distill.dataset.order import share
from distill.dataset.tokens import Tokens
from distill.objective.losses import head_loss
from distill.objective.masked_targets import MaskedTargets
from distill.objective.targets import Targets, TargetsOfEpoch
from distill.settings import TrainSettings
from distill.students.distilled import DistilledStudent, StudentOutputs
from distill.students.generation import NO_LABEL
from distill.students.heads import ProjectionHead, StudentHeads
from distill.students.masked_words import MaskedWords
from distill.students.pooling import pooled_width
from distill.training.balance import GradientBalance
from distill.training.class_weights import class_weights_of
from distill.training.distributed import (
    copy_full_weights,
    gather_full,
    gather_rows,
    is_sharded,
    rng_states,
    set_rng_state,
    shard_like,
    shard_optimizer_state,
    sharded_copy,
)
from distill.training.optimizer import make_optimizer, make_schedule
from teacher_cache import ChosenRows, ShardRows

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedModel


class Steps:
    """The student during training, its optimiser, its schedule and the random generator of this rank."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokens: Tokens,
        labels: Sequence[float],
        settings: TrainSettings,
        data_digest: str,
        teacher_targets: Targets | None,
        accelerator: Accelerator,
        first: Sequence[int] | None,
    ) -> None:
        self._settings, self._tokens = settings, tokens
        self._accelerator = accelerator
        self._rank, self._ranks = accelerator.process_index, accelerator.num_processes
        self._seed = settings.seed + 1_000_003 * self._rank
        device = accelerator.device
        self._labels = torch.tensor(labels, device=device)
        classes = teacher_targets.classes if teacher_targets else model.config.num_labels
        self._class_weights = class_weights_of(settings.class_weights, labels, classes, device)
        self._balance = None
        if teacher_targets and settings.objective == "crossfit" and settings.balance != "none":
            terms = (1, 2) if settings.balance == "all" else (2,)  # of (task, output alignment, contrast)
            self._balance = GradientBalance(3, terms, device, self._ranks)
        heads = _heads(model, teacher_targets, settings) if teacher_targets else None
        # Contains the model of the caller.
        self._given = self._bare = DistilledStudent(model, heads, first, settings.label_smoothing)
        if is_sharded(accelerator):
            self._bare = sharded_copy(self._given, accelerator)
        optimizer, self._trained = make_optimizer(self._bare, settings, device)
        self.loader = self._loader(data_digest, teacher_targets, device)
        self.total = min(settings.epochs * len(self.loader), settings.max_steps or settings.epochs * len(self.loader))
        self._schedule = make_schedule(optimizer, settings, self.total)
        self._student, self._optimizer = self._bare, optimizer
        if self._bare is self._given:
            self._student, self._optimizer = accelerator.prepare(self._bare, optimizer)
        self._student.train()
        answers = tokens.columns.get("labels")
        self._answer_tokens = None  # (N,) of a generative student
        if answers is not None:
            self._answer_tokens = np.array([sum(label != NO_LABEL for label in row) for row in answers])

    def _loader(self, key: str, teacher_targets: Targets | None, device: torch.device) -> Loader:
        """Return a loader of global batches: each rank takes its share of the texts, and all of the features."""
        settings = self._settings
        features = teacher_targets.features if teacher_targets else np.empty((len(self._labels), 0), np.float16)
        in_windows = isinstance(features, ChosenRows) and isinstance(features.source, ShardRows)
        return Loader(
            features,
            key,
            settings.batch_size,
            seed=settings.seed,
            device=device,
            lengths=self._tokens.lengths if settings.by_length and not in_windows else None,
            max_local_bytes=teacher_targets.max_local_bytes if teacher_targets else None,
        )

    def step(self, batch: Batch, epoch_targets: TargetsOfEpoch | None) -> Tensor:
        """Take one optimiser step over a global batch.

        Return its losses and the norm of its gradient, (3,) or (5,) on the device; see `_terms`.
        """
        count = len(batch.rows)
        parts = np.array_split(np.arange(count), min(self._settings.accumulate, count))
        answers = self._answer_tokens[batch.rows].sum() if self._answer_tokens is not None else 0
        losses = []
        for number, part in enumerate(parts, 1):
            rows, features = batch.rows[part], batch.features[part[0] : part[-1] + 1]
            weight = len(part) / count
            with self._accelerator.no_sync(self._student) if number < len(parts) else nullcontext():
                losses.append(weight * self._backward(rows, features, epoch_targets, weight, answers * weight))
        if self._balance:
            self._balance.end_step()
        norm = self._clipped()
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        return torch.cat([torch.stack(losses).sum(0), norm.detach().reshape(1).to(losses[0])])

    def _clipped(self) -> Tensor:
        """Clip the gradient and return the norm that it had.

        With a loss scale (fp16), too large a gradient is no fault: the scale is halved and the step is left out.
        """
        self._accelerator.unscale_gradients(self._optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self._trained, self._settings.clip_norm)
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        return torch.zeros_like(norm) if self._accelerator.scaler else norm

    def _backward(
        self, rows: np.ndarray, features: Tensor, epoch_targets: TargetsOfEpoch | None, weight: float, tokens: float
    ) -> Tensor:
        """Add the gradient of a part of the batch. Return its losses.

        `weight` is its share of the rows. The task loss of a generative student is a mean over answer tokens: `tokens`
        is the number of the whole batch, times `weight`.
        """
        device = self._accelerator.device
        own = share(rows, self._rank, self._ranks)[0]
        student_outputs = self._student(self._tokens.batch(own, device))
        if self._ranks > 1:
            student_outputs = self._gather(len(rows), student_outputs)
        terms = self._terms(rows, features, student_outputs, epoch_targets, weight, student_outputs.head_of(tokens))
        self._accelerator.backward(terms[0] * (weight * self._ranks))
        return terms.detach()

    def _terms(
        self,
        rows: np.ndarray,
        features: Tensor,
        student_outputs: StudentOutputs,
        epoch_targets: TargetsOfEpoch | None,
        weight: float,
        head: Tensor | None,
    ) -> Tensor:
        """Return (total, task, output alignment, manifold); without a teacher or without labels only (total, task)."""
        settings, index = self._settings, moved(rows, self._accelerator.device)
        labels = self._labels[index]
        if head is None:
            head = head_loss(student_outputs.logits, labels, settings.label_smoothing, self._class_weights)
        if epoch_targets is None:
            return torch.stack([head, head])
        terms = epoch_targets.terms(settings, student_outputs, labels, index, features, head, self._class_weights)
        if len(terms) == 1:
            return terms.expand(2)
        task, outputs, points = terms
        if self._balance:
            assert self._bare.head_input is not None  # of the forward pass just done
            self._balance.measure(terms, self._bare.head_input, weight)
            task, outputs, points = terms * self._balance.scales()
        beta = settings.contrast if settings.objective == "crossfit" else settings.beta
        total = settings.alpha * outputs + (1 - settings.alpha) * task + beta * points
        return torch.cat([total[None], terms])

    def _gather(self, rows: int, student_outputs: StudentOutputs) -> StudentOutputs:
        widths = [0 if column is None else column.shape[1] for column in student_outputs]
        own = [share(np.arange(rows), rank, self._ranks)[1] for rank in range(self._ranks)]
        gathered = gather_rows(
            torch.cat([column for column in student_outputs if column is not None], 1), own, self._rank
        )
        return StudentOutputs(*(part if part.shape[1] else None for part in torch.split(gathered, widths, 1)))  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next step depends on. All ranks must call it.

        Frozen weights are left out, because loading the student restores them.
        """
        weights = {name: value.detach() for name, value in self._bare.named_parameters() if value.requires_grad}
        is_main = self._accelerator.is_main_process
        return {
            "weights": gather_full(weights | dict(self._bare.named_buffers()), is_main),
            "optimizer": gather_full(self._optimizer.state_dict(), is_main),
            "schedule": self._schedule.state_dict(),
            "rng": rng_states(self._accelerator),
            "loader": self.loader.state_dict(),
            **({"balance": self._balance.state_dict()} if self._balance else {}),
            "scaler": self._accelerator.scaler.state_dict() if self._accelerator.scaler else {},
        }

    def start(self) -> None:
        """Seed the random generator of this rank, as at step 0."""
        torch.manual_seed(self._seed)

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Restore the state after `step`. All ranks must call it."""
        own = dict(self._bare.named_parameters())
        weights = {name: shard_like(value, own.get(name, value)) for name, value in state["weights"].items()}
        self._bare.load_state_dict(weights, strict=False)
        self._optimizer.load_state_dict(shard_optimizer_state(state["optimizer"], self._trained))
        self._schedule.load_state_dict(state["schedule"])
        if self._accelerator.scaler and state.get("scaler"):
            self._accelerator.scaler.load_state_dict(state["scaler"])
        self.loader.load_state_dict(state["loader"])
        if self._balance:
            self._balance.load_state_dict(state["balance"])
        set_rng_state(state["rng"], self._rank, self._seed + step)
        self.give_back()

    def give_back(self) -> None:
        """Copy the current weights into the model of the caller. All ranks must call it."""
        if self._bare is not self._given:
            copy_full_weights(self._bare, self._given)


def _heads(
    model: PreTrainedModel, teacher_targets: Targets, settings: TrainSettings
) -> StudentHeads | ProjectionHead | MaskedWords:
    heads: StudentHeads | ProjectionHead | MaskedWords
    if isinstance(teacher_targets, MaskedTargets):
        heads = MaskedWords(model, teacher_targets.words, teacher_targets.mask)
    elif teacher_targets.has_aux_heads:
        hidden, width = pooled_width(model), teacher_targets.projection_width
        heads = StudentHeads(hidden, width, teacher_targets.classes, settings.dropout, teacher_targets.relu)
    else:
        heads = ProjectionHead(pooled_width(model), teacher_targets.projection_width)
    heads.initialise(settings.seed)
    return heads
