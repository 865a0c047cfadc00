"""Evaluation: the student alone, its text in, its label out, in float32, as its exported checkpoint will do it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distill.tokens import Tokens
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
