"""ARMADA in your own training script: a model for transformers' Trainer that returns the distillation loss.

`texts`, `labels`, `tokenizer` and `name` are yours, and the cache has a picture of every text:

```python
from distill import DistilledModel, targets_from_cache
from transformers import DataCollatorWithPadding

targets = targets_from_cache("my-cache", texts, labels, epochs=3)  # trains the aligner once and keeps it
model = DistilledModel(AutoModelForSequenceClassification.from_pretrained(name, num_labels=3), targets)
rows = {**tokenizer(texts, truncation=True), "labels": labels, "row": list(range(len(texts)))}
args = TrainingArguments("out", num_train_epochs=3, remove_unused_columns=False)
collate, callbacks = DataCollatorWithPadding(tokenizer), [model.callback]
trainer = Trainer(model, args, train_dataset=Dataset.from_dict(rows), data_collator=collate, callbacks=callbacks)
trainer.train()
model.student.save_pretrained("student")  # a plain checkpoint, without teacher or added heads
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback

from distill.dataset.join import join
from distill.dataset.mending import Mending, spec_text
from distill.objective.aligner_store import aligner_states
from distill.objective.losses import COMPARING, Outputs, student_loss
from distill.objective.score_scale import AS_IS, scale_of
from distill.objective.targets import EpochTargets, TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.heads import StudentHeads
from distill.students.pooling import pooled_and_logits, pooled_width
from distill.tasks.splits import Split
from teacher_cache import ArmadaError, Cache, Features, choose, open_features, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerControl, TrainerState, TrainingArguments
    from transformers.modeling_outputs import SequenceClassifierOutput

CPU = torch.device("cpu")


def targets_from_cache(
    cache: str,
    texts: Sequence[str],
    labels: Sequence[float] | Sequence[Sequence[float]],
    epochs: int,
    *,
    teacher: str | None = None,
    encoder: str | None = None,
    samples: int = 1,
    aligner: AlignerSettings | None = None,
    seed: int = 0,
    device: torch.device = CPU,
) -> TeacherTargets:
    """Return the features of `texts` from a cache, and the state of the aligner after each epoch.

    The aligner is trained on the first call and kept in the user's cache folder.

    Args:
        cache: the folder or URL of the cache.
        texts: N texts, each of which has been the prompt of a picture.
        labels: (N,) class ids, floats for a regression, or (N, K) 0 or 1 for rows with any number of K labels.
        epochs: how many epochs the student trains.
        teacher: the digest of the teacher, needed if the cache has several.
        encoder: the digest of the encoder, needed if the cache has several.
        samples: the pictures per text, whose mean feature is used.
        aligner: the settings of the aligner.
        seed: the seed of the aligner.
        device: where the aligner trains.

    Raise CoverageError if a text has no feature: build the cache first.
    """
    opened = Cache(cache)
    several = np.ndim(labels) == 2
    answers: list[Any] = [tuple(map(int, row)) for row in np.asarray(labels)] if several else list(labels)
    rows = Split([sha256(text.encode()) for text in texts], [(text,) for text in texts], list(texts), answers)
    features = open_features(opened, *choose(opened, teacher, encoder))
    view = join(rows, opened, features, samples=samples, mend=_mending(opened, features, samples))
    settings = aligner or AlignerSettings()
    is_scored = not several and any(isinstance(label, float) for label in labels)
    classes = len(answers[0]) if several else 1 if is_scored else int(max(answers)) + 1
    scale, targets = AS_IS, None
    if is_scored and settings.regression == "standardised":
        scale = scale_of(view.split.labels)
        targets = scale.standardised(view.split.labels)
    folder = opened.derived_folder / "aligners"
    states = aligner_states(folder, view, classes, epochs, settings, seed, device, targets)
    relu = settings.regression == "relu"
    return TeacherTargets(torch.from_numpy(view.features), states, settings.width, relu=relu, scale=scale)


def _mending(cache: Cache, features: Features, samples: int) -> Mending:
    """Return the commands for a gap. The texts are the caller's, and have to be written into a file first."""
    note = 'where texts.jsonl has a line {"text": ...} for each of the texts'
    teacher, encoder = spec_text(features.teacher), spec_text(features.encoder)
    return Mending(("texts.jsonl",), teacher, encoder, str(cache.store), samples, note)


class DistilledModel(nn.Module):
    """A stock classifier and the heads that distillation adds, by the objective `armada`.

    With `labels` (B,) and `row` (B,), the places of the rows in the texts of `targets_from_cache`, it returns the loss
    of ARMADA. Without `row` it is the plain classifier. `callback`, for the Trainer, sets the epoch. Raise ArmadaError
    if the classifier has no task head.

    With `gradient_accumulation_steps`, loss and gradient are those of the whole batch. Where the manifold loss compares
    rows or means (COMPARING), the parts of a batch wait for its last one, and are then computed one by one with
    activation checkpointing: the memory is that of a part, and each part has one forward pass more. With several
    processes, each compares the rows of each part only.
    """

    features: Tensor
    accepts_loss_kwargs = True  # the Trainer passes `num_items_in_batch`, and does not divide the loss once more

    def __init__(
        self, student: PreTrainedModel, teacher_targets: TeacherTargets, settings: TrainSettings | None = None
    ) -> None:
        super().__init__()
        self.student, self.config = student, student.config
        self._settings = settings or TrainSettings()
        if self._settings.objective not in (None, "armada"):
            raise ArmadaError(f"DistilledModel: expected the objective armada, found {self._settings.objective}")
        if self._settings.class_weights:
            raise ArmadaError("DistilledModel: expected no class_weights: they need all rows, as in armada train")
        self._states, self._width = teacher_targets.states, teacher_targets.width
        self.register_buffer("features", torch.as_tensor(teacher_targets.features), persistent=False)
        width = self.features.shape[1]
        self._relu, self._scale = teacher_targets.relu, teacher_targets.scale
        classes, dropout = teacher_targets.classes, self._settings.dropout
        self.heads = StudentHeads(pooled_width(student), width, classes, dropout, self._relu)
        self.heads.initialise(self._settings.seed)
        self.callback = _EachEpoch(self)
        self._targets: EpochTargets | None = None
        self.compares_rows = self._settings.manifold in COMPARING
        self.waits_for_parts = False  # set by `callback`, which knows how the Trainer runs
        self._parts: list[_Part] = []  # of the batch, those that wait for the last one

    def begin(self, epoch: int) -> None:
        """Use the state of the aligner after this epoch from now on, or its last state if there are fewer."""
        state = min(epoch, len(self._states) - 1)
        targets = TeacherTargets(self.features, self._states, self._width, relu=self._relu)
        self._targets = EpochTargets(targets, state, self.features.device)

    def forward(
        self,
        labels: Tensor | None = None,
        row: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **tokens: Tensor,
    ) -> SequenceClassifierOutput | dict[str, Tensor]:
        """Return a dict of the loss and the logits (B, C); without `row` the output of the classifier.

        `num_items_in_batch` is the number of labels in all parts of the batch, over all processes; without it, these
        rows are the whole batch. Raise ArmadaError in training if there are rows and no labels.
        """
        if labels is None:
            if self.training and row is not None:
                raise ArmadaError(
                    "DistilledModel: expected labels beside row, found none: the Trainer takes them away for "
                    "label_smoothing_factor and compute_loss_func, which replace the loss of ARMADA; leave them out"
                )
            return self.student(**tokens)
        share = _share(labels, num_items_in_batch)
        if row is None:
            output = self.student(**tokens, labels=labels)
            output["loss"] = output["loss"] * share
            return output
        self._parts.append(_Part(labels, row, tokens))
        if self.waits_for_parts and num_items_in_batch is not None:
            share = _share(torch.cat([part.labels for part in self._parts]), num_items_in_batch)
            if share < 1:
                return {"loss": self.heads.projection.weight.sum() * 0.0}
        parts, self._parts = self._parts, []
        return self._loss_of(parts, share)

    def forget_parts(self) -> None:
        """Forget the parts of a batch whose last one never came."""
        self._parts = []

    def _loss_of(self, parts: Sequence[_Part], share: Tensor | float) -> dict[str, Tensor]:
        if self._targets is None:
            self.begin(0)
        assert self._targets is not None  # set by `begin`
        if len(parts) == 1:
            found = [self._outputs(parts[0].tokens)]
        else:
            found = [checkpoint(self._outputs, part.tokens, use_reentrant=False) for part in parts]
        logits = torch.cat([one[0] for one in found])
        heads = Outputs(*(torch.cat(column) for column in zip(*(one[1] for one in found), strict=True)))
        labels, row = (torch.cat(column) for column in zip(*((part.labels, part.row) for part in parts), strict=True))
        terms = student_loss(
            self._targets.outputs(row, self.features[row]),
            heads,
            self._scaled(labels) if self._scale != AS_IS else labels,
            **self._settings.loss,
            center=self._targets.center,
        )
        return {"loss": terms.total * share, "logits": logits}

    def _outputs(self, tokens: dict[str, Tensor]) -> tuple[Tensor, Outputs]:
        """Return the student's logits, and the outputs that the losses compare."""
        pooled, logits = pooled_and_logits(self.student, tokens)
        # The student scores in the unit of the labels, the aligner in standard deviations.
        return logits, self.heads(pooled, logits if self._scale == AS_IS else self._scaled(logits))

    def _scaled(self, values: Tensor) -> Tensor:
        return (values - self._scale.mean) / self._scale.deviation


class _Part(NamedTuple):
    """Rows of a batch: labels (B,) or (B, C), their places in the texts (B,), and their tokens."""

    labels: Tensor
    row: Tensor
    tokens: dict[str, Tensor]


def _share(labels: Tensor, total: Tensor | int | None) -> Tensor | float:
    """Return the share of a batch's labels that these are, counted as the Trainer counts: -100 is no label."""
    return 1.0 if total is None else labels.ne(-100).sum() / torch.as_tensor(total, device=labels.device).reshape(-1)[0]


class _EachEpoch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    def __init__(self, model: DistilledModel) -> None:
        self._model = [model]  # in a list, so that the callback and the model do not contain each other

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._model[0].begin(int(state.epoch or 0))

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        model = self._model[0]
        model.forget_parts()
        is_alone = args.world_size == 1 and args.n_gpu <= 1
        model.waits_for_parts = is_alone and args.gradient_accumulation_steps > 1 and model.compares_rows
