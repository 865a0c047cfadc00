"""Metrics of predictions against references, by scikit-learn, scipy and rouge-score. All are better when higher."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def score(
    logits: np.ndarray, labels: Sequence[float], metrics: Sequence[str], groups: Sequence[str] | None = None
) -> dict[str, float]:
    """Metrics of (N, C) logits against N class ids, or of (N, 1) scores against N numbers; f1 is of class 1, macro_f1
    the mean over the classes that occur. With `groups`, rows are choices of N questions: the choice whose class 1 has
    the largest margin is the answer."""
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
    """Metrics of generated texts; of several references the best counts. `exact_number` compares the last number in
    each; rouge_l is its F-measure with stemming, as MiniLLM's evaluation has it."""
    functions = {"exact_number": same_number, "rouge_l": _rouge_l}
    pairs = list(zip(predictions, references, strict=True))
    return {
        name: float(np.mean([max(functions[name](text, answer) for answer in answers) for text, answers in pairs]))
        for name in metrics
    }


def final_number(text: str) -> float | None:
    """The last number in a text, commas between its digits left out; None where there is none."""
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def same_number(text: str, reference: str) -> float:
    """1 where the last numbers are equal to 1e-6, else 0."""
    one, other = final_number(text), final_number(reference)
    return float(one is not None and other is not None and abs(one - other) <= 1e-6 * max(1.0, abs(other)))


def _rouge_l(text: str, reference: str) -> float:
    from rouge_score.rouge_scorer import RougeScorer

    return float(RougeScorer(["rougeL"], use_stemmer=True).score(reference, text)["rougeL"].fmeasure)


def _correlation(function: Any, scores: np.ndarray, labels: Sequence[float]) -> float:
    """0 where either side is constant, since nothing then goes with anything."""
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
