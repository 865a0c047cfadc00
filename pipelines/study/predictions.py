"""The predictions of a run for the test rows, by row id: kept beside its outcome, scored as `armada train` does.

A prediction is a row's logits, or the text that a generative student wrote. What each row adds to a metric is in
`verdicts/metric_parts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill import Card, Split, score, score_texts
from teacher_cache import ArmadaError

PREDICTIONS, ROW_IDS = "predictions.npz", "row_ids"


def score_predictions(card: Card, predictions: np.ndarray, test: Split) -> dict[str, float]:
    """Return the card's metrics of predictions for the test rows: logits (N, C), or texts (N,)."""
    if card.type == "generation":
        return score_texts(predictions.tolist(), test.labels, card.metrics)
    return score(predictions, test.labels, card.metrics, test.groups)


def save_predictions(folder: Path, predictions: Mapping[str, np.ndarray], ids: Sequence[str]) -> None:
    """Write the predictions by read-out, and the ids of the N rows: logits as float32, texts as they are."""
    arrays: dict[str, Any] = {
        name: values.astype(np.float32) if values.dtype.kind == "f" else values for name, values in predictions.items()
    }
    arrays[ROW_IDS] = np.array(ids, dtype=np.bytes_)
    with (folder / PREDICTIONS).open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def load_predictions(folder: Path, readout: str, ids: Sequence[str]) -> np.ndarray | None:
    """Return the predictions of a read-out for the rows of these ids, in their order; None if they are not kept.

    Before 2026-12 there were no ids, and the rows had the order of their study's test rows; and class ids were kept
    instead of logits: of these the logits are 1 for the class and 0 for the others.
    """
    path = folder / PREDICTIONS
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if readout not in arrays:
                return None
            found: np.ndarray = arrays[readout]
            kept = arrays[ROW_IDS].astype(str).tolist() if ROW_IDS in arrays else list(ids)
    except Exception as error:  # zip files and arrays that are damaged raise many types
        raise ArmadaError(f"{path}: expected the predictions that armada study writes, found: {error}") from None
    if len(found) != len(kept):
        return None
    if kept != list(ids):
        if len(set(kept)) < len(kept) or not set(ids) <= set(kept):
            return None
        places = {name: place for place, name in enumerate(kept)}
        found = found[[places[name] for name in ids]]
    return np.eye(int(found.max()) + 1)[found] if found.dtype.kind == "i" else found
