"""The training loops that train_step.py compares: ours, with or without a teacher, and transformers' Trainer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from distill import (
    CheckpointConfig,
    CrossfitTargets,
    StudentSpec,
    Targets,
    Tokens,
    TrainSettings,
    train_student,
)
from parts.turns import Turns

CLASSES, LENGTH, EPOCH_STEPS = 3, 128, 64


def student_model(name: str) -> Any:
    if name == "minilm":
        path = StudentSpec("minilm").path
        return AutoModelForSequenceClassification.from_pretrained(path, num_labels=CLASSES, dtype=torch.float32)
    return BertForSequenceClassification(BertConfig(num_hidden_layers=6, num_labels=CLASSES))


def synthetic_rows(count: int) -> tuple[Tokens, list[int]]:
    """Return rows of random words at full length, so that neither side spends time on padding."""
    generator = np.random.default_rng(0)
    ids = generator.integers(1000, 20000, (count, LENGTH)).tolist()
    columns = {"input_ids": ids, "attention_mask": [[1] * LENGTH] * count}
    return Tokens(columns, {"input_ids": 0, "attention_mask": 0}, 0), generator.integers(0, CLASSES, count).tolist()


def ours(name: str, batch: int, teacher_targets: Targets | None, accelerator: Any, turns: Turns, side: int) -> None:
    steps = len(turns.seconds) + 1
    tokens, labels = synthetic_rows(batch * max(EPOCH_STEPS, steps))
    objective = "crossfit" if isinstance(teacher_targets, CrossfitTargets) else "armada"
    settings = TrainSettings(epochs=1, batch_size=batch, max_steps=steps, objective=objective)
    with tempfile.TemporaryDirectory() as folder:
        train_student(
            student_model(name),
            tokens,
            labels,
            settings,
            data_digest="benchmark",
            teacher_targets=teacher_targets,
            checkpoint_config=CheckpointConfig(Path(folder), save_steps=10**9),
            accelerator=accelerator,
            on_step=lambda step: turns.wait(side) if step == 1 else turns.done(side),
        )


def trainer_of(name: str, batch: int, precision: str, turns: Turns, side: int, folder: str) -> Trainer:
    steps = len(turns.seconds) + 1
    tokens, labels = synthetic_rows(batch * max(EPOCH_STEPS, steps))
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(*tokens.columns.values(), labels, strict=True)
    ]

    class Step(TrainerCallback):
        def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
            turns.wait(side) if state.global_step == 1 else turns.done(side)

    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=batch,
        max_steps=steps,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        optim="adamw_torch_fused",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(student_model(name), arguments, train_dataset=rows, callbacks=[Step()])
    trainer.remove_callback(PrinterCallback)  # it would print on standard output
    return trainer
