"""Metrics of predictions against references, by scikit-learn, scipy and rouge-score. For all, higher is better.

A metric that is a mean over questions is computed as the mean of `question_scores`, which a bootstrap resamples, so the
two never differ. A row that is no choice is a question by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from teacher_cache import ArmadaError

# A minus sign belongs to a number only if no word, number or bracket ends before it: "10-3" has the numbers 10 and 3.
NUMBER = re.compile(
    r"(?:(?<![\w).,])[-\u2212])?\$?"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE][+-]?\d+)?"
)
MEANS = ("accuracy", "subset_accuracy", "exact_number", "rouge_l")  # the metrics that are a mean over questions


def score(
    logits: np.ndarray, labels: Sequence[Any], metrics: Sequence[str], groups: Sequence[str] | None = None
) -> dict[str, float]:
    """Return metrics of logits against labels, by name.

    Args:
        logits: (N, C), or (N, 1) scores for a regression.
        labels: (N,) class ids, numbers for a regression, or tuples of class ids for a multi-label task, in which a
            label is predicted if its logit is above 0: if its probability is above one half.
        metrics: names; `f1` is the F1 of class 1, `macro_f1` the mean F1 over the classes that occur in labels or
            predictions. Of a multi-label task, `micro_f1` is the F1 of all labels of all rows together,
            `subset_accuracy` the share of rows all of whose labels are right, and `mean_average_precision` the mean
            average precision over the labels that occur in `labels`.
        groups: (N,) the question of each row, if rows are choices. The answer to a question is its choice with the
            largest margin of class 1 over class 0; only the accuracy over questions is returned.

    Raise ArmadaError if a logit is NaN: such a student answers nothing.
    """
    from scipy import stats
    from sklearn.metrics import f1_score, matthews_corrcoef

    if np.isnan(logits).any():
        raise ArmadaError(f"expected numbers as predictions, found NaN for {int(np.isnan(logits).any(1).sum())} rows")
    if _are_sets(labels):
        return _label_set_scores(logits, labels, metrics)
    predicted, scores = logits.argmax(1), logits[:, 0]
    functions: dict[str, Any] = {
        "accuracy": lambda: np.mean(question_scores(logits, labels, groups)),
        "f1": lambda: f1_score(labels, predicted, zero_division=0.0),
        "macro_f1": lambda: f1_score(labels, predicted, average="macro"),
        "mcc": lambda: matthews_corrcoef(labels, predicted),
        "pearson": lambda: _correlation(stats.pearsonr, scores, labels),
        "spearman": lambda: _correlation(stats.spearmanr, scores, labels),
    }
    return {name: float(functions[name]()) for name in (metrics if groups is None else ["accuracy"])}


def question_scores(logits: np.ndarray, labels: Sequence[Any], groups: Sequence[str] | None = None) -> np.ndarray:
    """Return whether each of Q questions is answered right: (Q,) 0 or 1, in the order of each question's first row.

    Arguments as of `score`. Their mean is the accuracy, or the subset accuracy of a multi-label task.
    """
    if _are_sets(labels):
        return np.asarray(((logits > 0) == indicators(labels, logits.shape[1])).all(1), np.float64)
    if groups is None:
        return np.asarray(logits.argmax(1) == np.asarray(labels), np.float64)
    margins = logits[:, 1] - logits[:, 0]
    best: dict[str, int] = {}
    for row, group in enumerate(groups):
        if group not in best or margins[row] > margins[best[group]]:
            best[group] = row
    return np.array([float(labels[row]) for row in best.values()])


def indicators(labels: Sequence[Sequence[int]], classes: int) -> np.ndarray:
    """Return (N, K) 0 or 1, int8: whether a row has each of K = `classes` labels. `labels` has the ids of N rows."""
    found = np.zeros((len(labels), classes), np.int8)
    for row, ids in enumerate(labels):
        found[row, list(ids)] = 1
    return found


def _are_sets(labels: Sequence[Any]) -> bool:
    return len(labels) > 0 and isinstance(labels[0], tuple)


def _label_set_scores(logits: np.ndarray, labels: Sequence[Any], metrics: Sequence[str]) -> dict[str, float]:
    from sklearn.metrics import average_precision_score, f1_score

    wanted, predicted = indicators(labels, logits.shape[1]), logits > 0  # (N, K)
    occurs = np.flatnonzero(wanted.any(0))
    functions: dict[str, Any] = {
        "micro_f1": lambda: f1_score(wanted, predicted, average="micro", zero_division=0.0),
        "macro_f1": lambda: f1_score(wanted, predicted, average="macro", zero_division=np.nan),
        "subset_accuracy": lambda: np.mean(question_scores(logits, labels)),
        "mean_average_precision": lambda: np.mean(
            [average_precision_score(wanted[:, label], logits[:, label]) for label in occurs] or [0.0]
        ),
    }
    if not len(occurs) and not predicted.any():  # no F1 is defined
        functions["macro_f1"] = lambda: 0.0
    return {name: float(functions[name]()) for name in metrics}


def score_texts(
    predictions: Sequence[str], references: Sequence[Sequence[str]], metrics: Sequence[str]
) -> dict[str, float]:
    """Return metrics of N generated texts, by name: the means of `text_scores`."""
    return {name: float(np.mean(text_scores(predictions, references, name))) for name in metrics}


def text_scores(predictions: Sequence[str], references: Sequence[Sequence[str]], metric: str) -> np.ndarray:
    """Return a metric of each of N generated texts: (N,). Of several references for a text, the best match counts.

    `exact_number` compares the last numbers; `rouge_l` is the F-measure with stemming, as in MiniLLM's evaluation.
    """
    function = {"exact_number": same_number, "rouge_l": _rouge_l}[metric]
    pairs = zip(predictions, references, strict=True)
    return np.array([max(function(text, answer) for answer in answers) for text, answers in pairs])


def final_number(text: str) -> float | None:
    """Return the last number in a text, without its currency sign and thousands separators; None if there is none."""
    found = NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("$", "").replace("\u2212", "-")) if found else None


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
