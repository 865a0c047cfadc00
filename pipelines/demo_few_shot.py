"""The demo's second part: a small student with random weights that gets few labels, with and without pictures.

It is pre-trained on the demo's texts without labels, by what their pictures show, by pictures of other texts, or by
hidden words alone, or not at all; and then fine-tuned on the few labels.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from distill import UNDISTILLED, Splits, TrainSettings
from pipelines.cleaning import remove_student
from pipelines.pretraining.masked_words import pretrain_masked
from pipelines.pretraining.pretraining import pretrain_rows
from pipelines.pretraining.request import without_labels
from pipelines.run.features import card_mending
from pipelines.run.training import RunRequest, run_training

STUDENT, LABELLED = "random-bert-1?hidden=64", 128
NOTHING, WORDS, PICTURES, SHUFFLED = "no pre-training", "hidden words", "pictures", "shuffled pictures"
ARMS = (NOTHING, WORDS, PICTURES, SHUFFLED)


def run_few_shot(out: Path, task: str, splits: Splits, arm: str, seed: int, epochs: int) -> dict[str, Any]:
    """Train one arm in the folder `out`, where the demo's cache is, and return its metrics. `epochs` of pre-training;
    the fine-tuning has twice as many."""
    home = out / "few-shot" / f"{len(splits.train)}-rows" / f"{arm.replace(' ', '-')}-seed{seed}"
    settings = TrainSettings(epochs=epochs, lr=1e-3, max_length=32, seed=seed)
    request = RunRequest(
        task=task,
        student=STUDENT,
        out=home / "pretrained",
        cache=str(out / "cache"),
        control="shuffled" if arm == SHUFFLED else None,
        settings=settings,
    )
    rows = without_labels(splits.train)
    if arm == WORDS:
        pretrain_masked(request, rows)
    elif arm != NOTHING:
        pretrain_rows(request, rows, lambda cache: card_mending(request, cache))
    tuned = replace(
        request,
        student=STUDENT if arm == NOTHING else str(home / "pretrained" / "student"),
        out=home,
        cache=None,
        control=UNDISTILLED,
        settings=replace(settings, epochs=2 * epochs, batch_size=16),
    )
    result = run_training(tuned, replace(splits, train=splits.train.first(LABELLED)))
    remove_student(home)
    return {"arm": arm, "seed": seed, "metrics": result.metrics, "train_seconds": round(result.train_seconds, 2)}
