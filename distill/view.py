"""The view: training rows beside their features, joined by key. The join fails closed: a row without a sound feature
stops before training, unless the user said to drop it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.controls import apply_control, find_control, permutation
from distill.splits import Split
from teacher_cache import ArmadaError, Cache, ChosenRows, CoverageError, Features, ShardRows, failure_reasons, is_sound


@dataclass(frozen=True)
class Coverage:
    """How many of a split's rows have a sound feature."""

    rows: int
    found: int
    missing: int
    broken: int  # NaN, infinite or of no length
    examples: tuple[str, ...]  # prompts without a sound feature
    failures: dict[str, int]  # known reasons among the missing
    duplicates: int = 0  # rows that share their feature with an earlier row

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
        if self.duplicates:
            lines.append(f"  sharing a feature with an earlier row: {self.duplicates}")
        lines += [f"  for example: {prompt[:90]!r}" for prompt in self.examples]
        return "\n".join(lines)


@dataclass(frozen=True)
class View:
    """Training rows and their features after the control. `digest` names all of it: ids, labels, pictures, features."""

    split: Split
    features: np.ndarray  # (N, L) float16 or float32
    digest: str
    coverage: Coverage


@dataclass(frozen=True)
class LazyView:
    """The same, with features that are taken when they are asked for: from a mapped matrix, or in windows of shards."""

    split: Split
    features: ChosenRows  # (N, L)
    digest: str  # of a mapped matrix the same as the View's; in windows it names features by their checksums
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
    """Join a split with a cache's features by key, and copy them into memory. Raises CoverageError, with the coverage
    and the command `mend`, for rows without a sound feature; with `drop_missing` those are left out instead."""
    places = features.rows_of(split.prompts)
    found = np.flatnonzero(places >= 0)
    values = features.take(places[found])
    sound = np.concatenate([is_sound(part) for part in _blocks(values)])
    coverage = _covered(split, cache, features, places, sound, drop_missing, mend)
    kept = found[sound]
    rows = split.take(kept.tolist())
    pictures = features.pictures_of(places[kept])
    chosen = apply_control(control, values if sound.all() else values[sound], seed, pictures)
    digest = _digest(rows, pictures, chosen.shape, chosen.dtype, _blocks(chosen))
    return View(rows, chosen, digest, coverage)


def join_lazily(
    split: Split,
    cache: Cache,
    features: Features,
    *,
    drop_missing: bool = False,
    control: str | None = None,
    seed: int = 0,
    mend: str = "",
) -> LazyView:
    """`join` without a copy: for features that don't fit into memory, or were opened with `max_local_bytes`."""
    places = features.rows_of(split.prompts)
    found = np.flatnonzero(places >= 0)
    source = features.rows
    if isinstance(source, ShardRows):
        sound = np.asarray(source.sound[places[found]])
    else:
        sound = np.concatenate([is_sound(source.take(part)) for part in _blocks(places[found])])
    coverage = _covered(split, cache, features, places, sound, drop_missing, mend)
    kept = found[sound]
    rows = split.take(kept.tolist())
    chosen = ChosenRows(source, _moved(control, places[kept], seed))
    pictures = features.pictures_of(places[kept])
    if isinstance(source, ShardRows):
        contents: Iterable[np.ndarray] = [source.sums[chosen.places]]
    else:
        contents = (source.take(part) for part in _blocks(chosen.places))
    return LazyView(rows, chosen, _digest(rows, pictures, chosen.shape, chosen.dtype, contents), coverage)


def _moved(control: str | None, places: np.ndarray, seed: int) -> np.ndarray:
    """(N,) places after a control that moves rows and needs no number of them."""
    found = find_control(control)
    if found is None or found.features == "real":
        return places
    if found.features == "shuffled":
        moved: np.ndarray = places[permutation(len(places), seed)]
        return moved
    raise ArmadaError(f"--control {control}: computed from all features at once; leave out --max-local-bytes")


def _covered(
    split: Split, cache: Cache, features: Features, places: np.ndarray, sound: np.ndarray, drop: bool, mend: str
) -> Coverage:
    """`places` (N,) are the rows' features, -1 for none; `sound` says which of those that are found are. Raises
    CoverageError unless every row has one, or some have and the others may be dropped."""
    found = np.flatnonzero(places >= 0)
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
        duplicates=len(kept) - len(np.unique(places[kept])),
    )
    if not coverage.is_full and not (drop and len(kept)):
        ways = f"fill the gap by: {mend}\nor train on the rows at hand by: --missing drop" if len(kept) else mend
        raise CoverageError(f"{coverage.in_words()}\n{ways}")
    return coverage


def _blocks(rows: np.ndarray, size: int = 8192) -> Iterator[np.ndarray]:
    """The rows in pieces that the processor's cache holds; at least one, which may be empty."""
    return (rows[start : start + size] for start in range(0, max(1, len(rows)), size))


def _digest(
    split: Split, pictures: list[str], shape: tuple[int, ...], dtype: np.dtype[Any], contents: Iterable[np.ndarray]
) -> str:
    digest = hashlib.sha256(b"armada-view/1\n")
    for row, label, picture in zip(split.ids, split.labels, pictures, strict=True):
        digest.update(f"{row} {label} {picture}\n".encode())
    digest.update(f"{dtype} {shape}\n".encode())
    for part in contents:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def data_digest(split: Split) -> str:
    """The digest of rows and labels alone: it decides the order of an undistilled run."""
    lines = (f"{row} {label}\n" for row, label in zip(split.ids, split.labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
