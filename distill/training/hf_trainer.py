"""The method inside a training script of your own: a model that returns the taught loss, for transformers' Trainer.

`texts`, `labels` and `tokenizer` are yours, and the cache holds a picture of every text:

```python
from distill.training.hf_trainer import TaughtModel, teach_from_cache
from transformers import DataCollatorWithPadding

teaching = teach_from_cache("my-cache", texts, labels, epochs=3)  # trains the aligner once and keeps it
model = TaughtModel(AutoModelForSequenceClassification.from_pretrained(name, num_labels=3), teaching)
rows = {**tokenizer(texts, truncation=True), "labels": labels, "row": list(range(len(texts)))}
args = TrainingArguments("out", num_train_epochs=3, remove_unused_columns=False)
collate, callbacks = DataCollatorWithPadding(tokenizer), [model.callback]
trainer = Trainer(model, args, train_dataset=Dataset.from_dict(rows), data_collator=collate, callbacks=callbacks)
trainer.train()
model.student.save_pretrained("student")  # a plain checkpoint: nothing of the teaching is in it
```
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from distill.dataset.join import join
from distill.objective.aligner_store import aligner_states
from distill.objective.losses import student_loss
from distill.objective.targets import EpochTargets, TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.heads import StudentHeads
from distill.students.pooling import check_kind, pooled_and_logits, pooled_width
from distill.tasks.splits import Split
from teacher_cache import Cache, choose, open_features, sha256

CPU = torch.device("cpu")


def targets_from_cache(
    cache: str,
    texts: Sequence[str],
    labels: Sequence[float],
    epochs: int,
    *,
    teacher: str | None = None,
    encoder: str | None = None,
    samples: int = 1,
    aligner: AlignerSettings | None = None,
    seed: int = 0,
    device: torch.device = CPU,
) -> TeacherTargets:
    """The features of `texts` and the aligner's state after each epoch. `teacher` and `encoder` are digests, needed
    where the cache has several; of `samples` pictures a text the features' mean is taken. Labels are class ids, or
    floats for a regression. Raises CoverageError where a text has no feature: build the cache first."""
    opened = Cache(cache)
    rows = Split([sha256(text.encode()) for text in texts], [(text,) for text in texts], list(texts), list(labels))
    features = open_features(opened, *choose(opened, teacher, encoder))
    view = join(rows, opened, features, samples=samples, mend=f"--cache {cache}")
    settings = aligner or AlignerSettings()
    classes = 1 if any(isinstance(label, float) for label in labels) else int(max(labels)) + 1
    states = aligner_states(opened.machine_folder / "aligners", view, classes, epochs, settings, seed, device)
    return TeacherTargets(torch.from_numpy(view.features), states, settings.width)


class DistilledModel(nn.Module):
    """A stock classifier and the added heads. With `labels` and `row` (B,), the rows' places in the taught texts, it
    returns the method's loss; without `row` it is the classifier. `callback` tells it the epoch."""

    features: Tensor

    def __init__(self, student: Any, teacher_targets: TeacherTargets, settings: TrainSettings | None = None) -> None:
        super().__init__()
        check_kind("TaughtModel", student.config.model_type)
        self.student, self.config = student, student.config
        self._settings = settings or TrainSettings()
        self._states, self._width = teacher_targets.states, teacher_targets.width
        self.register_buffer("features", torch.as_tensor(teacher_targets.features), persistent=False)
        width = self.features.shape[1]
        self.heads = StudentHeads(pooled_width(student), width, teacher_targets.classes, self._settings.dropout)
        self.heads.start(torch.Generator().manual_seed(self._settings.seed))
        self.callback = _EachEpoch(self)
        self._lesson: EpochTargets | None = None

    def begin(self, epoch: int) -> None:
        """Teach from the aligner's state of this epoch (the last one, where there are fewer) from now on."""
        last = min(epoch, len(self._states) - 1)
        self._lesson = EpochTargets(
            TeacherTargets(self.features, self._states, self._width), last, self.features.device
        )

    def forward(self, labels: Tensor | None = None, row: Tensor | None = None, **tokens: Tensor) -> Any:
        """The classifier's output; while it is taught, a dict of the loss and the logits (B, C)."""
        if row is None or labels is None:
            return self.student(**tokens, labels=labels)
        if self._lesson is None:
            self.begin(0)
        assert self._lesson is not None  # begun just now, or by the callback
        pooled, logits = pooled_and_logits(self.student, tokens)
        terms = student_loss(
            self._lesson.outputs(row, self.features[row]),
            self.heads(pooled, logits),
            labels,
            **self._settings.loss,
            center=self._lesson.center,
        )
        return {"loss": terms.total, "logits": logits}


class _EachEpoch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    def __init__(self, model: DistilledModel) -> None:
        self._model = [model]  # in a list: a callback is no part of the module

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._model[0].begin(int(state.epoch or 0))
