"""What each test row adds to a metric that is no mean over rows, so that the metric's chance is that of a mean.

The parts are the jackknife's pseudo-values n T - (n - 1) T(without the row) (Tukey 1958), computed for all rows at once
from counts and sums. Spearman's correlation, in which a left-out row shifts all ranks, has its influence function with
mid-ranks instead (Croux and Dehon 2010), to which its jackknife converges.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from distill import Card, Split, indicators, question_scores, text_scores

MEANS = ("accuracy", "subset_accuracy", "exact_number", "rouge_l")  # the metrics that are a mean over questions


def metric_parts(card: Card, metric: str, predictions: np.ndarray, test: Split) -> np.ndarray:
    """Return the parts (Q,) of the Q questions, whose mean is the metric, or nearly: a jackknife's bias apart.

    `predictions` are logits (N, C) or (N,) texts of the N rows. Of a metric that is a mean over questions, the parts
    are their scores.
    """
    if card.type == "generation":
        return text_scores(predictions.tolist(), test.labels, metric)
    if metric in MEANS or test.groups is not None:
        return question_scores(predictions, test.labels, test.groups)
    if card.type == "multi-label":
        wanted = indicators(test.labels, predictions.shape[1]).astype(bool)
        return (
            _average_precision(wanted, predictions)
            if metric == "mean_average_precision"
            else _label_f1(wanted, predictions > 0, metric)
        )
    labels = np.asarray(test.labels)
    if metric in ("pearson", "spearman"):
        return _correlation(metric, predictions[:, 0].astype(np.float64), labels.astype(np.float64))
    return _of_counts(metric, labels, predictions.argmax(1))


def _pseudo(whole: float, without: np.ndarray) -> np.ndarray:
    parts: np.ndarray = len(without) * whole - (len(without) - 1) * without
    return parts


def _of_counts(metric: str, labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the parts of a metric of the table of counts; rows of one label and prediction have the same part."""
    size = int(max(labels.max(), predicted.max(), 1)) + 1
    cells = labels * size + predicted
    counts = np.bincount(cells, minlength=size * size).astype(np.float64)
    met, place = np.unique(cells, return_inverse=True)
    fewer = counts[None] - np.eye(size * size)[met]
    function: Callable[[np.ndarray], np.ndarray] = {"f1": _f1, "macro_f1": _macro_f1, "mcc": _mcc}[metric]
    whole = float(function(counts.reshape(1, size, size))[0])
    return _pseudo(whole, function(fewer.reshape(-1, size, size))[place])


def _f1(tables: np.ndarray) -> np.ndarray:
    """Return the F1 of class 1 of tables (K, C, C) of labels by predictions."""
    return _ratio(2 * tables[:, 1, 1], tables[:, 1].sum(1) + tables[:, :, 1].sum(1))


def _macro_f1(tables: np.ndarray) -> np.ndarray:
    hits = np.diagonal(tables, axis1=1, axis2=2)
    sums = tables.sum(1) + tables.sum(2)  # (K, C)
    return _ratio(_ratio(2 * hits, sums).sum(1), (sums > 0).sum(1))


def _mcc(tables: np.ndarray) -> np.ndarray:
    total, hits = tables.sum((1, 2)), np.trace(tables, axis1=1, axis2=2)
    predicted, labelled = tables.sum(1), tables.sum(2)
    both = (total**2 - (predicted**2).sum(1)) * (total**2 - (labelled**2).sum(1))
    return _ratio(hits * total - (predicted * labelled).sum(1), np.sqrt(np.maximum(both, 0)))


def _label_f1(wanted: np.ndarray, predicted: np.ndarray, metric: str) -> np.ndarray:
    """Return the parts of an F1 of label sets, (N, K) as booleans."""
    hits, sums = 2.0 * (wanted & predicted), wanted.astype(np.float64) + predicted  # of each row and label

    def function(hits: np.ndarray, sums: np.ndarray) -> np.ndarray:
        if metric == "micro_f1":
            return _ratio(hits.sum(1), sums.sum(1))
        return _ratio(_ratio(hits, sums).sum(1), (sums > 0).sum(1))

    all_hits, all_sums = hits.sum(0, keepdims=True), sums.sum(0, keepdims=True)
    return _pseudo(float(function(all_hits, all_sums)[0]), function(all_hits - hits, all_sums - sums))


def _average_precision(wanted: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the parts of the mean average precision of (N, K) labels; of equal scores, the first row comes first."""
    count, labels = wanted.shape
    whole, without, occurs = np.zeros(labels), np.zeros((count, labels)), np.zeros((count, labels), bool)
    for label in range(labels):
        order = np.argsort(-scores[:, label], kind="stable")
        hit = wanted[order, label].astype(np.float64)
        found, rank = np.cumsum(hit), np.arange(1.0, count + 1)
        precision = hit * found / rank
        later, once = hit * found / np.maximum(rank - 1, 1), hit / np.maximum(rank - 1, 1)  # without a row before
        before = np.cumsum(precision) - precision
        after = later.sum() - np.cumsum(later) - hit * (once.sum() - np.cumsum(once))
        whole[label] = precision.sum() / max(found[-1], 1.0)
        without[order, label] = (before + after) / np.maximum(found[-1] - hit, 1.0)
        occurs[order, label] = found[-1] - hit > 0
    occur = wanted.any(0)
    if not occur.any():
        return np.zeros(count)
    return _pseudo(float(whole[occur].mean()), _ratio((without * occurs).sum(1), occurs.sum(1)))


def _correlation(metric: str, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the parts of a correlation of (N,) scores and labels; zeros if one of them is constant."""
    count = len(labels)
    if count < 3 or np.ptp(scores) == 0 or np.ptp(labels) == 0:
        return np.zeros(count)
    if metric == "pearson":
        one, other = scores - scores.mean(), labels - labels.mean()
        share = count / (count - 1)
        left = [(a * b).sum() - share * a * b for a, b in ((one, other), (one, one), (other, other))]
        whole = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
        return _pseudo(float(whole), _ratio(left[0], np.sqrt(np.maximum(left[1] * left[2], 0))))
    one, other = _mid_ranks(scores) - 0.5, _mid_ranks(labels) - 0.5
    products = [(one, other, scores, labels), (one, one, scores, scores), (other, other, labels, labels)]
    mean, influence = zip(*(_rank_product(*product) for product in products), strict=True)
    whole = mean[0] / np.sqrt(mean[1] * mean[2])
    moved = influence[0] / np.sqrt(mean[1] * mean[2]) - whole / 2 * (influence[1] / mean[1] + influence[2] / mean[2])
    parts: np.ndarray = whole + moved
    return parts


def _rank_product(
    one: np.ndarray, other: np.ndarray, values: np.ndarray, others: np.ndarray
) -> tuple[float, np.ndarray]:
    """Return the mean product of two centred mid-ranks (N,), and each row's influence on it."""
    mean = float((one * other).mean())
    shifts = _above(values, other) + _above(others, one)  # a row shifts the ranks of the rows above it
    return mean, one * other + shifts - shifts.mean() - mean


def _mid_ranks(values: np.ndarray) -> np.ndarray:
    """Return the share of values below each one, and half of those equal to it: (N,) in 0 to 1."""
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values), np.searchsorted(ordered, values, "right")
    return (low + high) / 2 / len(values)


def _above(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return, for each row, the mean over all rows of the weights of those above it, and half of those equal: (N,)."""
    order = np.argsort(values, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    low, high = np.searchsorted(values[order], values), np.searchsorted(values[order], values, "right")
    found: np.ndarray = (sums[-1] - (sums[low] + sums[high]) / 2) / len(values)
    return found


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """Return over / under, and 0 where `under` is 0."""
    shape = np.broadcast_shapes(over.shape, under.shape)
    found: np.ndarray = np.divide(over, under, out=np.zeros(shape), where=under > 0)
    return found
