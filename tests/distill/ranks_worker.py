"""One rank of tiny training runs.

torch.distributed.run starts it with the folder of a student and a JSON list of [output folder, settings]. Every rank
writes its results. The setting `stop_at` interrupts a run after that step.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from distill.dataset.tokens import tokenize
from distill.settings import TrainSettings
from distill.students.loading import StudentSpec, load_student
from distill.training import trainer
from distill.training.steps import Steps
from distill.training.trainer import CheckpointConfig, train_student
from tests.distill.training.test_crossfit import crossfit_targets
from tests.distill.training.test_trainer import LABELS, ROWS, teacher_targets


class StopError(Exception):
    """Interrupts a run."""


class Weighed(Steps):
    """Records how many trained parameters this rank has, and how many modules are sharded separately."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        Weighed.units = sum(isinstance(module, FSDPModule) for module in self._bare.modules())
        Weighed.held = sum(getattr(weights, "_local_tensor", weights).numel() for weights in self._trained)


def determined(model: Any) -> Tensor:
    """Return the weights that the losses determine. The bias of attention keys shifts all scores of a query alike and
    changes no probability: its gradient is nothing but rounding, and Adam turns that into full steps."""
    named = model.named_parameters()
    blind = ("key.bias", "pos_key_proj.bias")  # BERT's; DeBERTa's for relative positions
    return torch.cat([weights.detach().flatten() for name, weights in named if not name.endswith(blind)])


def train(student: str, out: Path, stop_at: int | None = None, lora_rank: int | None = None, **options) -> None:
    settings = TrainSettings(**{"batch_size": 8, "lr": 1e-3, "epochs": 2, "dropout": 0.0, **options})
    accelerator = Accelerator(cpu=True)
    model, tokenizer = load_student(StudentSpec(student, lora_rank=lora_rank), LABELS, settings.seed)
    steps: list[int] = []

    def on_step(step: int) -> None:
        steps.append(step)
        if step == stop_at:
            raise StopError

    targets = crossfit_targets() if settings.objective == "crossfit" else teacher_targets(epochs=settings.epochs)
    epochs = train_student(
        model,
        tokenize(tokenizer, ROWS.texts, 32),
        ROWS.labels,
        settings,
        data_digest="digest",
        teacher_targets=targets,
        checkpoint_config=CheckpointConfig(out / "checkpoints", out / "metrics.jsonl", save_steps=2),
        accelerator=accelerator,
        on_step=on_step,
    )
    facts = {
        "ranks": accelerator.num_processes,
        "held": Weighed.held,
        "units": Weighed.units,
        "steps": steps,
        "losses": [epoch.loss for epoch in epochs],
        "weights": determined(model)[::97].tolist(),
    }
    (out / f"rank{accelerator.process_index}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    trainer.Steps = Weighed
    for folder, options in json.loads(sys.argv[2]):
        with suppress(StopError):
            train(sys.argv[1], Path(folder), **options)
