"""Evaluation of a student without teacher or aligner: its predictions, its pooled outputs, and a linear probe.

Predictions are those of the exported checkpoint, computed in the precision of the run and by all its processes. A
linear probe is a logistic regression on the pooled outputs of a frozen student; its accuracy measures how much they
tell about the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from distill.dataset.tokens import Tokens
from distill.students.pooling import pooled_and_logits
from distill.students.sharing import ALONE, Shared
from distill.tasks.metrics import indicators
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def predict(
    model: PreTrainedModel,
    tokens: Tokens,
    device: torch.device,
    batch_size: int = 64,
    what: str = "evaluate",
    shared: Shared = ALONE,
) -> np.ndarray:
    """Return the logits (N, C) float32 of all rows, in their order. `what` labels the progress bar.

    Raise ArmadaError if a logit is not finite.
    """
    was_training = model.training
    model.eval()
    order = np.argsort(tokens.lengths, kind="stable")
    logits = np.zeros((len(order), model.config.num_labels), np.float32)
    batches = shared.batches(order, batch_size)
    found = []
    with shared.bar(batches, what) as bar, shared.autocast(device):
        for rows in batches:
            found.append((rows, model(**tokens.batch(rows, device)).logits.float().cpu().numpy()))
            bar.update(len(rows))
    model.train(was_training)
    for part in shared.gather(found):
        for rows, values in part:
            logits[rows] = values
    wrong = int((~np.isfinite(logits)).any(1).sum())
    if wrong:
        raise ArmadaError(
            f"{what}: expected finite predictions, found a NaN or an infinity for {wrong} of {len(logits)} rows; "
            "training diverged: nothing is exported; choose a smaller --lr, or check the student's weights"
        )
    return logits


@torch.inference_mode()
def pooled_outputs(model: PreTrainedModel, tokens: Tokens, device: torch.device, batch_size: int = 128) -> np.ndarray:
    """Return the pooled outputs (N, H) float32 of all rows, in their order. The model is left in evaluation mode."""
    model.to(device).eval()
    order = np.argsort(tokens.lengths, kind="stable")
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    found = [pooled_and_logits(model, tokens.batch(rows, device))[0].float().cpu().numpy() for rows in parts]
    pooled: np.ndarray = np.concatenate(found)[np.argsort(order, kind="stable")]
    return pooled


def probe(train: np.ndarray, labels: Sequence[Any], test: np.ndarray, seed: int, classes: int) -> np.ndarray:
    """Return what a linear probe predicts for (M, H) test rows: log-probabilities (M, C), or scores (M, 1).

    With `classes` C of at least two it is a logistic regression on the standardised (N, H) training rows and their (N,)
    class ids; a class without a training row gets minus infinity. If the labels are tuples of class ids, it is one such
    regression per label, and returns log-odds; those of a label that no or every training row has are -50 or 50. With
    one class it is a ridge regression on (N,) numbers.
    """
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if classes < 2:
        scores: np.ndarray = make_pipeline(StandardScaler(), Ridge(10.0)).fit(train, labels).predict(test)
        return scores[:, None]
    if isinstance(labels[0], tuple):
        wanted = indicators(labels, classes)
        return np.stack([_log_odds(train, wanted[:, label], test, seed) for label in range(classes)], 1)
    log_probabilities = np.full((len(test), classes), -np.inf)
    seen = np.unique(np.asarray(labels))
    if len(seen) == 1:
        log_probabilities[:, seen] = 0.0
        return log_probabilities
    log_probabilities[:, seen] = _logistic_regression(seed).fit(train, labels).predict_log_proba(test)
    return log_probabilities


def _log_odds(train: np.ndarray, labels: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    if labels.min() == labels.max():
        return np.full(len(test), 50.0 if labels[0] else -50.0)
    odds: np.ndarray = _logistic_regression(seed).fit(train, labels).decision_function(test)
    return odds


def _logistic_regression(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, random_state=seed))
