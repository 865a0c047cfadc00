"""The predictions of a run for the test rows: kept beside its outcome, scored as `armada train` scores them.

A prediction is a row's logits, or the text that a generative student wrote. Scores and the bootstrap over test rows use
the same functions, by question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distill import Card, Split, question_scores, score, score_texts, text_scores

PREDICTIONS = "predictions.npz"


def score_predictions(card: Card, predictions: np.ndarray, test: Split) -> dict[str, float]:
    """Return the card's metrics of predictions for the test rows: logits (N, C), or texts (N,)."""
    if card.type == "generation":
        return score_texts(predictions.tolist(), test.labels, card.metrics)
    return score(predictions, test.labels, card.metrics, test.groups)


def scores_by_question(card: Card, metric: str, predictions: np.ndarray, test: Split) -> np.ndarray | None:
    """Return the (Q,) scores of the test questions, of which the metric is the mean; None if it is no such mean."""
    if card.type == "generation":
        return text_scores(predictions.tolist(), test.labels, metric)
    is_mean = metric in ("accuracy", "subset_accuracy")
    return question_scores(predictions, test.labels, test.groups) if is_mean else None


def save_predictions(folder: Path, predictions: Mapping[str, np.ndarray]) -> None:
    """Write the predictions by read-out: logits as float32, texts as they are."""
    arrays: dict[str, Any] = {
        name: values.astype(np.float32) if values.dtype.kind == "f" else values for name, values in predictions.items()
    }
    with (folder / PREDICTIONS).open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_predictions(folder: Path, readout: str) -> np.ndarray | None:
    """Return the predictions of a read-out; None if they are not kept.

    Before 2026-12 class ids were kept instead of logits: of these the logits are 1 for the class and 0 for the others.
    """
    with np.load(folder / PREDICTIONS) as arrays:
        if readout not in arrays:
            return None
        found: np.ndarray = arrays[readout]
    return np.eye(int(found.max()) + 1)[found] if found.dtype.kind == "i" else found
