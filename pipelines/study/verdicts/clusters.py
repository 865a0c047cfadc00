"""Which test questions are not independent: those that share a text, such as the name of a thing or a premise.

A question is a row, or a row with choices and all its choices. The texts of a task's two fields are taken as objects of
one kind: "car" beside "horse" and "boat" beside "car" share a car.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from distill import Split

LEVELS = (
    20  # a field of a pair that has fewer values than this beside one that has more is a scale, as colours of things
)


@dataclass(frozen=True)
class Clusters:
    """Q questions and the objects that they share.

    `objects` (O, Q) and `pairs` (P, Q) have a 1 where a question has an object, or both objects of a pair. Two
    questions share an object if objects'objects - pairs'pairs is 1. `degrees` is the number of clusters that would give
    as reliable a variance if they were of one size (Carter, Schnepel and Steigerwald 2017, for objects whose questions
    differ in nothing), and `correction` undoes what the variance loses because the mean is estimated.
    """

    questions: int
    objects: csr_array
    pairs: csr_array | None
    repeated: int  # objects that several questions share
    degrees: float
    correction: float

    def squares(self, parts: np.ndarray) -> np.ndarray:
        """Return (...) sums of products of (..., Q) parts over all pairs of questions that share an object.

        At least the sum of their squares: with two objects a question, the estimate may fall below it, and below zero.
        """
        flat = parts.reshape(-1, self.questions).T
        found = ((self.objects @ flat) ** 2).sum(0)
        if self.pairs is not None:
            found = np.maximum(found - ((self.pairs @ flat) ** 2).sum(0), (flat**2).sum(0))
        shaped: np.ndarray = (found * self.correction).reshape(parts.shape[:-1])
        return shaped


def independent(questions: int) -> Clusters:
    """Return clusters of questions that share nothing."""
    return clusters_of([[number] for number in range(questions)])


def clusters_of(objects: Sequence[Iterable[Hashable]]) -> Clusters:
    """Return the clusters of Q questions from the objects of each.

    Of a question with several objects that others have too, the two count that most questions have.
    """
    counts = Counter(one for some in objects for one in set(some))
    shared = [
        sorted((one for one in set(some) if counts[one] > 1), key=lambda one: -counts[one])[:2] for some in objects
    ]
    singles, sizes = _incidence([some or [number] for number, some in enumerate(shared)])
    pairs, pair_sizes = _incidence([[frozenset(some)] if len(some) == 2 else [] for some in shared])
    partners = (
        singles.T @ sizes - pairs.T @ pair_sizes
    )  # (Q,) questions that share an object with each, itself among them
    count, total = len(objects), float(partners.sum())
    left = 1 - 2 * float((partners**2).sum()) / (count * total) + total / count**2
    degrees = total**2 / float((sizes**4).sum() - (pair_sizes**4).sum()) - 1
    return Clusters(
        questions=count,
        objects=singles,
        pairs=pairs if len(pair_sizes) else None,
        repeated=int((sizes > 1).sum()),
        degrees=max(0.0, degrees),
        correction=1 / left if left > 1e-9 else float("inf"),
    )


def clusters_of_split(test: Split) -> Clusters:
    """Return the clusters of the questions of a split, by the texts that the student reads."""
    texts = list(zip(*test.texts, strict=True)) if len(test) else []
    values = [len(set(field)) for field in texts]
    things = [field for field, count in enumerate(values) if count >= LEVELS or max(values) < LEVELS]
    return clusters_of([{test.texts[row][field] for row in rows for field in things} for rows in test.questions])


def _incidence(names: Sequence[Sequence[Hashable]]) -> tuple[csr_array, np.ndarray]:
    """Return a (K, Q) matrix with a 1 where a question has a name, and the number of questions of each name (K,)."""
    from scipy.sparse import csr_array

    numbers: dict[Hashable, int] = {}
    places = [(numbers.setdefault(name, len(numbers)), column) for column, some in enumerate(names) for name in some]
    rows, columns = np.array(places, np.int64).reshape(-1, 2).T
    sizes = np.bincount(rows, minlength=len(numbers)).astype(np.float64)
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(numbers), len(names))), sizes
