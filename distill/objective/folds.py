"""Folds of training rows: every row is in one fold, and an aligner that teaches it has not seen that fold's labels."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from distill.tasks.splits import Split
from teacher_cache import ArmadaError, sha256


def folds_of(split: Split, folds: int) -> np.ndarray:
    """Return the fold of each row, (N,) int64 below `folds`: a pure function of the rows' ids, whatever their order.

    Rows that belong together are in one fold: the choices of one question, rows of one text, and rows of one prompt,
    which share a picture. There are as many folds as such units if those are fewer. With one fold, every row is in it.

    Raise ArmadaError if all rows belong together, so that none can be left out.
    """
    if folds == 1:
        return np.zeros(len(split), np.int64)
    columns: list[Iterable[Hashable]] = [split.texts, split.prompts]
    units = _units(len(split), columns if split.groups is None else [*columns, split.groups])
    if len(units) < 2:
        raise ArmadaError(
            f"--folds {folds}: expected training rows of at least 2 different texts and prompts, so that an aligner "
            f"can leave some out, found {len(units)}; use --folds 1 or --objective armada"
        )
    units.sort(key=lambda unit: sha256(f"armada-folds/1\n{min(split.ids[row] for row in unit)}".encode()))
    sizes = np.zeros(min(folds, len(units)), np.int64)
    found = np.empty(len(split), np.int64)
    for unit in units:
        fold = int(sizes.argmin())  # the first of the smallest
        found[unit] = fold
        sizes[fold] += len(unit)
    return found


def _units(rows: int, columns: Iterable[Iterable[Hashable]]) -> list[list[int]]:
    """Return the rows in units: two rows with the same value in one of the columns are in one unit."""
    parents = list(range(rows))

    def root(row: int) -> int:
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    for column in columns:
        first: dict[Hashable, int] = {}
        for row, value in enumerate(column):
            parents[root(row)] = root(first.setdefault(value, row))
    units: dict[int, list[int]] = {}
    for row in range(rows):
        units.setdefault(root(row), []).append(row)
    return list(units.values())
