"""Evaluation: the student alone, its text in, its label out, in float32, as its exported checkpoint will do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from distill.dataset.tokens import Tokens
from distill.students.pooling import pooled_and_logits
from teacher_cache import progress


@torch.inference_mode()
def predict(
    model: Any, tokens: Tokens, device: torch.device, batch_size: int = 64, what: str = "evaluate"
) -> np.ndarray:
    """The logits (N, C) float32 of all rows."""
    was_training = model.training
    model.eval()
    order = np.argsort(tokens.lengths, kind="stable")
    logits = np.zeros((len(order), model.config.num_labels), np.float32)
    with progress(len(order), what, "row") as bar:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            logits[rows] = model(**tokens.batch(rows, device)).logits.float().cpu().numpy()
            bar.update(len(rows))
    model.train(was_training)
    return logits


# --- merged: distill.students.evaluation
# The linear probe: what a frozen student's pooled output knows of the labels, read by a logistic regression.
@torch.inference_mode()
def pooled_outputs(model: Any, tokens: Tokens, device: torch.device, batch_size: int = 128) -> np.ndarray:
    """s of all rows, (N, H) float32, in evaluation mode."""
    model.to(device).eval()
    order = np.argsort(tokens.lengths, kind="stable")
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    found = [pooled_and_logits(model, tokens.batch(rows, device))[0].float().cpu().numpy() for rows in parts]
    pooled: np.ndarray = np.concatenate(found)[np.argsort(order, kind="stable")]
    return pooled


def probe(train: np.ndarray, labels: Sequence[int], test: np.ndarray, seed: int) -> np.ndarray:
    """(M, C) log-probabilities for (M, H) test rows, by a logistic regression on (N, H) standardised training rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, random_state=seed))
    found: np.ndarray = reader.fit(train, labels).predict_log_proba(test)
    return found
