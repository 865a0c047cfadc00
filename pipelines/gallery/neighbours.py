"""Nearest neighbours by feature: cosines of some rows with all rows, one block at a time to limit memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from teacher_cache import Features

_BLOCK = 4096  # rows per block
COUNT = 12


@dataclass(frozen=True)
class Near:
    """A picture, and the cosine of its feature with that of the query."""

    image_key: str
    cosine: float


def neighbours(features: Features, keys: Sequence[str], count: int = COUNT) -> list[list[Near]]:
    """Return, per image key, its nearest other pictures, nearest first; none for a key without a feature."""
    found: list[list[Near]] = [[] for _ in keys]
    rows = features.rows_of_keys(list(keys)) if len(keys) else np.empty(0, np.int64)
    known = np.flatnonzero(rows >= 0)
    if not len(known):
        return found
    places, cosines = _nearest(features, rows[known], count)
    for place, at, near in zip(known, places, cosines, strict=True):
        near = near[at >= 0]
        found[place] = [Near(*pair) for pair in zip(features.keys_of(at[at >= 0]), near.tolist(), strict=True)]
    return found


def _nearest(features: Features, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row numbers and cosines (Q, count), cosines descending; the number is -1 if there are fewer rows."""
    queries = _unit(features.take(rows))  # (Q, L)
    places = np.full((len(rows), count), -1, np.int64)
    cosines = np.full((len(rows), count), -np.inf, np.float32)
    for start in range(0, len(features), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(features)))
        near = queries @ _unit(features.take(block)).T  # (Q, B)
        near[rows[:, None] == block] = -np.inf  # not itself
        all_near = np.hstack([cosines, near])
        all_places = np.hstack([places, np.broadcast_to(block, near.shape)])
        best = _best(all_near, count)
        cosines, places = np.take_along_axis(all_near, best, 1), np.take_along_axis(all_places, best, 1)
    return np.where(np.isfinite(cosines), places, -1), cosines


def _best(values: np.ndarray, count: int) -> np.ndarray:
    """Return the columns of the largest values per row, (Q, count), largest first."""
    some = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, some, 1), axis=1, kind="stable")
    best: np.ndarray = np.take_along_axis(some, order, 1)
    return best


def _unit(features: np.ndarray) -> np.ndarray:
    """Return features as float32 with unit norm."""
    wide = features.astype(np.float32)
    unit: np.ndarray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
