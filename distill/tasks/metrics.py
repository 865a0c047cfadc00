"""Metrics of predictions against references, by scikit-learn, scipy and rouge-score. For all, higher is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def score(
    logits: np.ndarray, labels: Sequence[float], metrics: Sequence[str], groups: Sequence[str] | None = None
) -> dict[str, float]:
    """Return metrics of logits against labels, by name.

    Args:
        logits: (N, C), or (N, 1) scores for a regression.
        labels: (N,) class ids, or numbers for a regression.
        metrics: names; `f1` is the F1 of class 1, `macro_f1` the mean F1 over the classes that occur.
        groups: (N,) the question of each row, if rows are choices. The answer to a question is its choice with the
            largest margin of class 1 over class 0; only the accuracy over questions is returned.
    """
    from scipy import stats
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if groups is not None:
        return {"accuracy": _accuracy_of_choices(logits, labels, groups)}
    predicted, scores = logits.argmax(1), logits[:, 0]
    functions: dict[str, Any] = {
        "accuracy": lambda: accuracy_score(labels, predicted),
        "f1": lambda: f1_score(labels, predicted, zero_division=0.0),
        "macro_f1": lambda: f1_score(labels, predicted, average="macro"),
        "mcc": lambda: matthews_corrcoef(labels, predicted),
        "pearson": lambda: _correlation(stats.pearsonr, scores, labels),
        "spearman": lambda: _correlation(stats.spearmanr, scores, labels),
    }
    return {name: float(functions[name]()) for name in metrics}


def score_texts(
    predictions: Sequence[str], references: Sequence[Sequence[str]], metrics: Sequence[str]
) -> dict[str, float]:
    """Return metrics of N generated texts, by name. Of several references for a text, the best match counts.

    `exact_number` compares the last numbers; `rouge_l` is the F-measure with stemming, as in MiniLLM's evaluation.
    """
    functions = {"exact_number": same_number, "rouge_l": _rouge_l}
    pairs = list(zip(predictions, references, strict=True))
    return {
        name: float(np.mean([max(functions[name](text, answer) for answer in answers) for text, answers in pairs]))
        for name in metrics
    }


def final_number(text: str) -> float | None:
    """Return the last number in a text, ignoring commas between digits, or None if there is none."""
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def same_number(text: str, reference: str) -> float:
    """Return 1 if the last numbers of both texts agree to a relative 1e-6, else 0."""
    one, other = final_number(text), final_number(reference)
    return float(one is not None and other is not None and abs(one - other) <= 1e-6 * max(1.0, abs(other)))


def _rouge_l(text: str, reference: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"], use_stemmer=True).score(reference, text)["rougeL"].fmeasure)


def _correlation(function: Callable[..., Any], scores: np.ndarray, labels: Sequence[float]) -> float:
    """Return the correlation, or 0 if scores or labels are constant, where it is undefined."""
    if len(labels) < 2 or np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return 0.0
    return float(function(scores, labels)[0])


def _accuracy_of_choices(logits: np.ndarray, labels: Sequence[float], groups: Sequence[str]) -> float:
    margins = logits[:, 1] - logits[:, 0]
    best: dict[str, int] = {}
    for row, group in enumerate(groups):
        if group not in best or margins[row] > margins[best[group]]:
            best[group] = row
    return float(np.mean([labels[row] for row in best.values()]))
