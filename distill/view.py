"""The view: training rows beside their features, joined by key. The join fails closed: a row without a sound feature
stops before training, unless the user said to drop it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from distill.controls import apply_control
from distill.splits import Split
from teacher_cache import Cache, CoverageError, Features, failure_reasons


@dataclass(frozen=True)
class Coverage:
    """How many of a split's rows have a sound feature."""

    rows: int
    found: int
    missing: int
    broken: int  # NaN, infinite or of no length
    examples: tuple[str, ...]  # prompts without a sound feature
    failures: dict[str, int]  # known reasons among the missing

    @property
    def is_full(self) -> bool:
        """Whether every row has a sound feature."""
        return self.found == self.rows

    def in_words(self) -> str:
        """The report, a few lines."""
        lines = [f"coverage: {self.found} of {self.rows} training rows have a feature"]
        if self.missing:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(self.failures.items()))
            lines.append(f"  missing: {self.missing}" + (f" (the teacher failed: {reasons})" if reasons else ""))
        if self.broken:
            lines.append(f"  not finite or zero: {self.broken}")
        lines += [f"  for example: {prompt[:90]!r}" for prompt in self.examples]
        return "\n".join(lines)


@dataclass(frozen=True)
class View:
    """Training rows and their features after the control. `digest` names all of it: ids, labels, pictures, features."""

    split: Split
    features: np.ndarray  # (N, L) float16 or float32
    digest: str
    coverage: Coverage


def join(
    split: Split,
    cache: Cache,
    features: Features,
    *,
    drop_missing: bool = False,
    control: str | None = None,
    seed: int = 0,
    mend: str = "",
) -> View:
    """Join a split with a cache's features by key. Raises CoverageError, with the coverage and the command `mend`, for
    rows without a sound feature; with `drop_missing` those are left out instead."""
    places = features.rows_of(split.prompts)
    found = np.flatnonzero(places >= 0)
    values = features.take(places[found])
    sound = np.isfinite(values).all(axis=1) & (values != 0).any(axis=1)
    kept = found[sound]
    lost = np.setdiff1d(np.arange(len(split)), kept)
    prompts = [split.prompts[row] for row in lost]
    coverage = Coverage(
        rows=len(split),
        found=len(kept),
        missing=len(split) - len(found),
        broken=int((~sound).sum()),
        examples=tuple(prompts[:3]),
        failures=dict(failure_reasons(cache, features.teacher, prompts)) if prompts else {},
    )
    if not coverage.is_full and not (drop_missing and len(kept)):
        ways = f"fill the gap by: {mend}\nor train on the rows at hand by: --missing drop" if len(kept) else mend
        raise CoverageError(f"{coverage.in_words()}\n{ways}")
    rows = split.take(kept.tolist())
    chosen = apply_control(control, values[sound], seed)
    pictures = features.pictures_of(places[kept])
    return View(rows, chosen, _digest(rows, pictures, chosen), coverage)


def _digest(split: Split, pictures: list[str], features: np.ndarray) -> str:
    digest = hashlib.sha256(b"armada-view/1\n")
    for row, label, picture in zip(split.ids, split.labels, pictures, strict=True):
        digest.update(f"{row} {label} {picture}\n".encode())
    digest.update(f"{features.dtype} {features.shape}\n".encode())
    digest.update(np.ascontiguousarray(features).data)
    return digest.hexdigest()


def data_digest(split: Split) -> str:
    """The digest of rows and labels alone: it decides the order of an undistilled run."""
    lines = (f"{row} {label}\n" for row, label in zip(split.ids, split.labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
