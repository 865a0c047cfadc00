"""One rank of tiny training runs, started by torch.distributed.run with a student's folder and a list of [output
folder, settings] as JSON. Every rank writes what it saw. `stop_at` breaks a run off after that step."""

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

from distill import trainer
from distill.settings import TrainSettings
from distill.steps import Steps
from distill.students import StudentSpec, load_student
from distill.tokens import tokenize
from distill.trainer import Keeping, train_student
from tests.distill.test_trainer import LABELS, ROWS, teaching


class StopError(Exception):
    """Breaks a run off."""


class Weighed(Steps):
    """Says how many of the trained numbers this rank holds, and how many modules are brought together by themselves."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        Weighed.units = sum(isinstance(module, FSDPModule) for module in self._bare.modules())
        Weighed.held = sum(getattr(weights, "_local_tensor", weights).numel() for weights in self._trained)


def determined(model: Any) -> Tensor:
    """The weights that the losses determine. A bias of attention keys moves every score of a query alike and so no
    probability: its gradient is rounding alone, and Adam takes whole steps along it, on each processor other ones."""
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

    epochs = train_student(
        model,
        tokenize(tokenizer, ROWS.texts, 32),
        ROWS.labels,
        settings,
        data_digest="digest",
        teaching=teaching(epochs=settings.epochs),
        keeping=Keeping(out / "checkpoints", out / "metrics.jsonl", save_steps=2),
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
