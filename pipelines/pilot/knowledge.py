"""What features know of the labels: how well a linear model on them predicts rows that it has not seen.

Classes are predicted by shrunken centroids (Tibshirani et al. 2002) of the COMPONENTS first whitened principal
components, each shrunk as James and Stein do; numbers and choices by ridge regression, whose penalty has the smallest
leave-one-out error. Both are in closed form. Rows are predicted out of fold; rows of one prompt, and the choices of one
question, are in one fold. "Shuffled" is the same model trained on labels that were permuted, the mean over
PERMUTATIONS: what it scores, no picture explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FOLDS, PERMUTATIONS, COMPONENTS = 5, 100, 64
_PENALTIES = 10.0 ** np.arange(-3, 4)  # relative to the mean eigenvalue


@dataclass(frozen=True)
class Labelled:
    """The labels of N rows as a linear model reads them.

    `kind` is classification, choice or regression. `clusters` (N,) numbers what belongs together: rows of one prompt,
    or of one question, which is one answer. A choice's `classes` are 0 and 1, right or not.
    """

    kind: str
    targets: np.ndarray  # (N, C) float64: classes one-hot, or a regression's number in units of its deviation
    classes: np.ndarray  # (N,) int64; zeros for a regression
    clusters: np.ndarray  # (N,) int64

    def permuted(self, generator: np.random.Generator) -> np.ndarray:
        """Return targets (N, C) that belong to other rows; of a question, another choice is the right one."""
        if self.kind != "choice":
            permuted: np.ndarray = self.targets[generator.permutation(len(self.targets))]
            return permuted
        order = np.lexsort((generator.random(len(self.clusters)), self.clusters))
        placed = np.empty_like(self.targets)
        placed[order] = self.targets[np.argsort(self.clusters, kind="stable")]
        return placed

    def scores(self, predicted: np.ndarray) -> np.ndarray:
        """Return the score of each answer, (A,): 1 or 0 for a right or wrong class or choice; for a regression the
        share of variance that the row contributes. `predicted` is (N, C)."""
        if self.kind == "regression":
            squared = (self.targets - predicted) ** 2
            explained: np.ndarray = (self.targets**2 - squared)[:, 0]
            return explained
        if self.kind == "classification":
            return np.asarray(predicted.argmax(1) == self.classes, float)
        order = np.lexsort((-predicted[:, 1], self.clusters))
        best = order[np.flatnonzero(np.diff(self.clusters[order], prepend=-1))]
        return np.asarray(self.classes[best] == 1, float)

    @property
    def answer_clusters(self) -> np.ndarray:
        """The cluster of each answer, (A,)."""
        return np.unique(self.clusters) if self.kind == "choice" else self.clusters


@dataclass(frozen=True)
class Known:
    """What features know: scores of all answers (A,), and the mean score of each permutation (P,)."""

    scores: np.ndarray
    shuffled: np.ndarray


def labelled(kind: str, labels: Sequence[float], clusters: Sequence[str]) -> Labelled:
    """Return the labels of N rows; `clusters` names what belongs together."""
    _, numbers = np.unique(np.array(clusters), return_inverse=True)
    if kind == "regression":
        values = np.asarray(labels, float)
        spread = values.std() or 1.0
        targets = ((values - values.mean()) / spread)[:, None]
        return Labelled(kind, targets, np.zeros(len(values), np.int64), numbers)
    known, classes = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    if kind == "choice":
        classes, known = np.asarray(labels, np.int64), np.arange(2)
    return Labelled(kind, np.eye(len(known))[classes], classes, numbers)


def known_by(features: Sequence[np.ndarray], rows: Labelled, seed: int = 0) -> Known:
    """Return what features (each (N, L)) know together. Each of several kinds of features has the same weight."""
    generator = np.random.default_rng(seed)
    folds = _folds(rows.clusters, generator)
    every = np.stack([rows.targets, *(rows.permuted(generator) for _ in range(PERMUTATIONS))])  # (1 + P, N, C)
    predicted = np.empty_like(every)
    compared = [_within_clusters(one, rows.clusters) if rows.kind == "choice" else one for one in features]
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if not test.any():
            continue
        kernels = [_kernels(one, train, test) for one in compared]
        inner = np.sum([one for one, _ in kernels], axis=0)
        outer = np.sum([one for _, one in kernels], axis=0)
        predict = _centroids if rows.kind == "classification" else _ridge
        predicted[:, test] = predict(inner, outer, every[:, train])
    scores = rows.scores(predicted[0])
    return Known(scores, np.array([rows.scores(one).mean() for one in predicted[1:]]))


def _folds(clusters: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the fold of each row, (N,): one for all rows of a cluster, of about equal sizes."""
    folds: np.ndarray = generator.permutation(np.arange(clusters.max() + 1) % FOLDS)[clusters]
    return folds


def _within_clusters(features: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return features (N, L) minus the mean of their cluster: choices of one question are compared with each other."""
    sums = np.zeros((clusters.max() + 1, features.shape[1]))
    np.add.at(sums, clusters, features)
    within: np.ndarray = features - (sums / np.bincount(clusters)[:, None])[clusters]
    return within


def _kernels(features: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the inner products (T, T) of the training rows, and (S, T) of the test rows with them, of features that
    are standardised by the training rows; the training rows have a mean square of 1."""
    values = np.asarray(features, np.float64)
    mean, spread = values[train].mean(0), values[train].std(0)
    spread[spread <= 1e-8 * np.abs(mean)] = np.inf  # a constant says nothing
    values = (values - mean) / spread
    inner = values[train] @ values[train].T
    scale = max(float(np.trace(inner)) / len(inner), 1e-12)
    return inner / scale, values[test] @ values[train].T / scale


def _centroids(inner: np.ndarray, outer: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the log-likelihoods (K, S, C) of the test rows' classes for K sets of one-hot targets (K, T, C)."""
    values, vectors = np.linalg.eigh(inner)
    kept = np.flatnonzero(values > 1e-9 * max(values[-1], 1e-12))[-COMPONENTS:]
    root = np.sqrt(len(inner))
    train, test = root * vectors[:, kept], root * outer @ (vectors[:, kept] / values[kept])  # (T, D), (S, D)
    sizes = targets.sum(1)  # (K, C)
    means = targets.transpose(0, 2, 1) @ train / np.maximum(sizes, 1)[:, :, None]  # (K, C, D)
    share = sizes / len(inner)
    between = np.einsum("kc,kcd->kd", share, means**2)
    by_chance = ((sizes > 0).sum(1) - 1)[:, None] / len(inner)
    shrink = np.maximum(0.0, 1 - by_chance / np.maximum(between, 1e-12))
    within = np.maximum(0.05, 1 - shrink * between)  # of a variance of 1
    centres = means * shrink[:, None]
    scaled = centres / within[:, None]
    likelihood = np.einsum("sd,kcd->ksc", test, scaled) - (centres * scaled).sum(2)[:, None] / 2
    predicted: np.ndarray = likelihood + np.log(np.maximum(share, 1e-12))[:, None]
    return predicted


def _ridge(inner: np.ndarray, outer: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return predictions (K, S, C) of the test rows for K sets of targets (K, T, C), each with its best penalty."""
    flat = targets.transpose(1, 0, 2).reshape(len(inner), -1)  # (T, K * C)
    offset = flat.mean(0)
    values, vectors = np.linalg.eigh(inner)
    values = np.maximum(values, 0.0)
    turned = vectors.T @ (flat - offset)
    best = np.full(len(targets), np.inf)
    weights = np.zeros_like(flat)
    for penalty in _PENALTIES * max(float(values.mean()), 1e-12):
        shrunk = 1 / (values + penalty)
        dual = vectors @ (shrunk[:, None] * turned)
        leverage = (vectors**2 @ shrunk)[:, None]
        errors = ((dual / leverage) ** 2).reshape(len(dual), len(targets), -1).sum((0, 2))
        better = np.repeat(errors < best, targets.shape[2])
        weights[:, better] = dual[:, better]
        best = np.minimum(best, errors)
    predicted: np.ndarray = (offset + outer @ weights).reshape(len(outer), *targets.shape[::2]).transpose(1, 0, 2)
    return predicted
