"""The view: training rows beside their features, joined by key. The join fails closed: a row without a sound feature
stops before training, unless the user said to drop it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from distill.controls import apply_control, find_control, permutation
from distill.dataset.sampled_features import SampledFeatures
from distill.tasks.splits import Split
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
    samples: int = 1  # pictures that a row needs

    @property
    def is_full(self) -> bool:
        """Whether every row has a sound feature."""
        return self.found == self.rows

    def in_words(self) -> str:
        """The report, a few lines."""
        feature = "a feature" if self.samples == 1 else f"features of {self.samples} pictures"
        lines = [f"coverage: {self.found} of {self.rows} training rows have {feature}"]
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
    """Training rows and their features after the control. `digest` names all of it: ids, labels, pictures, features; of
    features in windows, their checksums."""

    split: Split
    features: np.ndarray | ChosenRows | SampledFeatures  # (N, L) float16 or float32
    digest: str
    coverage: Coverage


def join(
    split: Split,
    cache: Cache,
    features: Features,
    *,
    samples: int = 1,
    combine: str = "mean",
    drop_missing: bool = False,
    control: str | None = None,
    seed: int = 0,
    mend: str = "",
) -> View:
    """Join a split with a cache's features by key, and copy them into memory. Raises CoverageError, with the coverage
    and the command `mend`, for rows without a sound feature; with `drop_missing` those are left out instead.

    Of `samples` pictures a prompt, all of which a row needs, `combine` takes the features' mean ("mean") or shows one
    an epoch, drawn by `seed` ("draw"). A control changes the means, or each of the pictures.
    """
    rows, places, coverage = _match(split, cache, features, samples, drop_missing, mend)
    values = features.take(places.reshape(-1))  # (N * K, L)
    pictures = features.pictures_of(places.reshape(-1))
    if samples > 1 and combine == "mean":
        values = _means(values, samples)
        pictures = ["+".join(pictures[start : start + samples]) for start in range(0, len(pictures), samples)]
    together = samples if combine == "draw" else 1  # features that a row has still
    chosen = apply_control(control, values, seed, pictures, together)
    digest = _digest(rows, pictures, chosen, _blocks(chosen), combine if samples > 1 else None)
    if together == 1:
        return View(rows, chosen, digest, coverage)
    draws = SampledFeatures(chosen, np.arange(len(chosen)).reshape(-1, together), digest, seed)
    return View(rows, draws, digest, coverage)


def join_lazily(
    split: Split,
    cache: Cache,
    features: Features,
    *,
    drop_missing: bool = False,
    control: str | None = None,
    seed: int = 0,
    mend: str = "",
) -> View:
    """`join` of one picture a prompt without a copy: for features that don't fit into memory, or were opened with
    `max_local_bytes`. They are taken when they are asked for, from a mapped matrix or in windows of shards."""
    rows, places, coverage = _match(split, cache, features, 1, drop_missing, mend)
    source = features.rows
    chosen = ChosenRows(source, _moved(control, places[:, 0], seed))
    pictures = features.pictures_of(places[:, 0])
    if isinstance(source, ShardRows):
        contents: Iterable[np.ndarray] = [source.sums[chosen.places]]
    else:
        contents = (source.take(part) for part in _blocks(chosen.places))
    return View(rows, chosen, _digest(rows, pictures, chosen, contents), coverage)


def _match(
    split: Split, cache: Cache, features: Features, samples: int, drop: bool, mend: str
) -> tuple[Split, np.ndarray, Coverage]:
    """The rows that have all of their sound features, those features' places (N, K), and the coverage. Raises
    CoverageError unless every row has them, or some have and the others may be dropped."""
    places = np.stack([features.rows_of(split.prompts, sample) for sample in range(samples)], 1)
    found = np.flatnonzero((places >= 0).all(1))
    source = features.rows
    if isinstance(source, ShardRows):
        sound = np.asarray(source.sound[places[found]])
    else:
        sound = np.concatenate([is_sound(source.take(part)) for part in _blocks(places[found].reshape(-1))])
    kept = found[sound.reshape(-1, samples).all(1)]
    lost = np.setdiff1d(np.arange(len(split)), kept)
    prompts = [split.prompts[row] for row in lost]
    coverage = Coverage(
        rows=len(split),
        found=len(kept),
        missing=len(split) - len(found),
        broken=len(found) - len(kept),
        examples=tuple(prompts[:3]),
        failures=dict(failure_reasons(cache, features.teacher, prompts, samples)) if prompts else {},
        duplicates=len(kept) - len(np.unique(places[kept], axis=0)),
        samples=samples,
    )
    if not coverage.is_full and not (drop and len(kept)):
        ways = f"fill the gap by: {mend}\nor train on the rows at hand by: --missing drop" if len(kept) else mend
        raise CoverageError(f"{coverage.in_words()}\n{ways}")
    return split.take(kept.tolist()), places[kept], coverage


def _means(values: np.ndarray, samples: int) -> np.ndarray:
    """The mean (N, L) of each row's features (N * K, L), computed in float32 and of their type again."""
    grouped = values.reshape(-1, samples, values.shape[1])  # (N, K, L)
    return np.concatenate([part.mean(1, dtype=np.float32).astype(values.dtype) for part in _blocks(grouped)])


def _moved(control: str | None, places: np.ndarray, seed: int) -> np.ndarray:
    """(N,) places after a control that moves rows and needs no number of them."""
    found = find_control(control)
    if found is None or found.features == "real":
        return places
    if found.features == "shuffled":
        moved: np.ndarray = places[permutation(len(places), seed)]
        return moved
    raise ArmadaError(f"--control {control}: computed from all features at once; leave out --max-local-bytes")


def _blocks(rows: np.ndarray, size: int = 8192) -> Iterator[np.ndarray]:
    """The rows in pieces that the processor's cache holds; at least one, which may be empty."""
    return (rows[start : start + size] for start in range(0, max(1, len(rows)), size))


def _digest(
    split: Split,
    pictures: Sequence[str],
    features: np.ndarray | ChosenRows,
    contents: Iterable[np.ndarray],
    combine: str | None = None,
) -> str:
    """`pictures` are as many as rows, or K times as many, row by row; `contents` are the features or their sums."""
    digest = hashlib.sha256(b"armada-view/1\n")
    if combine:
        digest.update(f"{combine}\n".encode())
    each = len(pictures) // max(1, len(split))
    for place, (row, label) in enumerate(zip(split.ids, split.labels, strict=True)):
        own = " ".join(pictures[place * each : (place + 1) * each])
        digest.update(f"{row} {label} {own}\n".encode())
    digest.update(f"{features.dtype} {features.shape}\n".encode())
    for part in contents:
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def data_digest(split: Split) -> str:
    """The digest of rows and labels alone: it decides the order of an undistilled run."""
    lines = (f"{row} {label}\n" for row, label in zip(split.ids, split.labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
