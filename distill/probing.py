"""The linear probe: what a frozen student's pooled output knows of the labels, read by a logistic regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from distill.pooling import pooled_and_logits
from distill.tokens import Tokens


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
