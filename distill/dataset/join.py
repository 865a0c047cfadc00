"""The join: training rows and their features, matched by key into a view.

The join fails closed: if a row has no sound feature, the run stops before training, unless the user asked to drop such
rows. A feature is sound if it is finite and not zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from distill.controls import apply_control, controlled_pictures, find_control, permutation
from distill.dataset.coverage import Coverage
from distill.dataset.mending import FileMending, Mending
from distill.dataset.own_features import OwnFeatures
from distill.dataset.sampled_features import SampledFeatures
from distill.tasks.splits import Split
from teacher_cache import ArmadaError, Cache, ChosenRows, CoverageError, Features, ShardRows, failure_reasons, is_sound


@dataclass(frozen=True)
class View:
    """Training rows and their features after the control.

    `digest` identifies the ids, labels, pictures and features; for features that are read in windows, it covers the
    checksums of the features instead of the features. `pictures` has, for each feature, a number that tells the
    distinct pictures apart: (N,), or (N * K,) if a row has K features.
    """

    split: Split
    features: np.ndarray | ChosenRows | SampledFeatures  # (N, L) float16 or float32
    digest: str
    coverage: Coverage
    pictures: np.ndarray  # int64


def join(
    split: Split,
    cache: Cache | None,
    features: Features | OwnFeatures,
    *,
    samples: int = 1,
    combine: str = "mean",
    drop_missing: bool = False,
    control: str | None = None,
    seed: int = 0,
    mend: Mending | FileMending | None = None,
) -> View:
    """Join a split with the features of a cache by key, and copy the features into memory.

    Args:
        split: the N rows to train on.
        cache: the cache that the features belong to; it has the reasons for missing pictures. None for own features.
        features: the features of one teacher and one encoder, or of a file.
        samples: K, the pictures per prompt; a row needs the features of all of them.
        combine: "mean" takes the mean of the K features; "draw" shows one of them per epoch, chosen by `seed`.
        drop_missing: leave out rows without a sound feature instead of raising.
        control: the control that changes the features (the means, or each of the K features).
        seed: the seed of the control and of "draw".
        mend: makes the commands that complete the cache, for the error message.

    Raise CoverageError, with the coverage and the commands of `mend`, if a row has no sound feature and `drop_missing`
    is false, or if no row has one.
    """
    rows, places, coverage = _match(split, cache, features, samples, drop_missing, mend)
    values = features.take(places.reshape(-1))  # (N * K, L)
    pictures = features.pictures_of(places.reshape(-1))
    if samples > 1 and combine == "mean":
        values = _means(values, samples)
        pictures = ["+".join(pictures[start : start + samples]) for start in range(0, len(pictures), samples)]
    together = samples if combine == "draw" else 1  # features per row after combining
    chosen = apply_control(control, values, seed, pictures, together)
    digest = _digest(rows, pictures, chosen, _blocks(chosen), combine if samples > 1 else None)
    numbers = controlled_pictures(control, pictures, seed, together)
    if together == 1:
        return View(rows, chosen, digest, coverage, numbers)
    sampled = SampledFeatures(chosen, np.arange(len(chosen)).reshape(-1, together), digest, seed)
    return View(rows, sampled, digest, coverage, numbers)


def join_lazily(
    split: Split,
    cache: Cache | None,
    features: Features | OwnFeatures,
    *,
    drop_missing: bool = False,
    control: str | None = None,
    seed: int = 0,
    mend: Mending | FileMending | None = None,
) -> View:
    """Join like `join`, with one picture per prompt and without copying the features.

    Use it for features that do not fit into memory or were opened with `max_local_bytes`. They are read on demand, from
    a mapped matrix or in windows of shards. Raise CoverageError as `join` does, and ArmadaError for a control that
    needs all features at once.
    """
    rows, places, coverage = _match(split, cache, features, 1, drop_missing, mend)
    source = features.rows
    chosen = ChosenRows(source, _permuted(control, places[:, 0], seed))
    pictures = features.pictures_of(places[:, 0])
    if isinstance(source, ShardRows):
        contents: Iterable[np.ndarray] = [source.sums[chosen.places]]
    else:
        contents = (source.take(part) for part in _blocks(chosen.places))
    numbers = controlled_pictures(control, pictures, seed)
    return View(rows, chosen, _digest(rows, pictures, chosen, contents), coverage, numbers)


def _match(
    split: Split,
    cache: Cache | None,
    features: Features | OwnFeatures,
    samples: int,
    drop: bool,
    mend: Mending | FileMending | None,
) -> tuple[Split, np.ndarray, Coverage]:
    """Return the rows whose features are all present and sound, the places (N, K) of those features, and the coverage.

    Raise CoverageError if a row lacks one and may not be dropped, or if no row is left.
    """
    places = np.stack([_places(split, features, sample) for sample in range(samples)], 1)
    found = np.flatnonzero((places >= 0).all(1))
    source = features.rows
    if isinstance(source, ShardRows):
        sound = np.asarray(source.sound[places[found]])
    else:
        sound = np.concatenate([is_sound(source.take(part)) for part in _blocks(places[found].reshape(-1))])
    has_feature = found[sound.reshape(-1, samples).all(1)]
    kept = _in_whole_questions(split, has_feature)
    lost = np.setdiff1d(np.arange(len(split)), kept)
    prompts = [split.prompts[row] for row in lost]
    coverage = Coverage(
        rows=len(split),
        found=len(kept),
        missing=len(split) - len(found),
        broken=len(found) - len(has_feature),
        examples=tuple(prompts[:3]),
        failures=_failures(cache, features, prompts, samples),
        duplicates=len(kept) - len(np.unique(places[kept], axis=0)),
        samples=samples,
    )
    if not coverage.is_full and not (drop and len(kept)):
        raise CoverageError("\n".join([coverage.in_words(), *_ways(coverage, mend)]))
    return split.take(kept.tolist()), places[kept], coverage


def _places(split: Split, features: Features | OwnFeatures, sample: int) -> np.ndarray:
    if isinstance(features, OwnFeatures):
        return features.places(split, sample)
    return features.rows_of(split.prompts, sample)


def _failures(
    cache: Cache | None, features: Features | OwnFeatures, prompts: Sequence[str], samples: int
) -> dict[str, int]:
    if not prompts or cache is None or isinstance(features, OwnFeatures):
        return {}
    return dict(failure_reasons(cache, features.teacher, prompts, samples))


def _in_whole_questions(split: Split, rows: np.ndarray) -> np.ndarray:
    """Return those of the rows whose question has all of its choices among them, in their order."""
    if split.groups is None:
        return rows
    present = set(rows.tolist())
    whole = [row for question in split.questions if present.issuperset(question) for row in question]
    return np.array(sorted(whole), rows.dtype)


def _ways(coverage: Coverage, mend: Mending | FileMending | None) -> list[str]:
    """Return what the user can do about rows without a sound feature."""
    may_drop = coverage.found > 0
    if isinstance(mend, FileMending):
        return [mend.advice(may_drop=may_drop)]
    if mend and coverage.missing:
        return [mend.advice(coverage.failures, may_drop=may_drop)]
    ways = ["no build replaces a feature that is not finite or zero: use another encoder"] if coverage.broken else []
    return [*ways, "or leave these rows out with: --missing drop"] if may_drop else ways


def _means(values: np.ndarray, samples: int) -> np.ndarray:
    """Return the means (N, L) of features (N * K, L) per row, computed in float32 and converted back to their type."""
    grouped = values.reshape(-1, samples, values.shape[1])  # (N, K, L)
    return np.concatenate([part.mean(1, dtype=np.float32).astype(values.dtype) for part in _blocks(grouped)])


def _permuted(control: str | None, places: np.ndarray, seed: int) -> np.ndarray:
    """Return the (N,) places after a control that only permutes rows. Raise ArmadaError for any other control."""
    found = find_control(control)
    if found is None or found.features == "real":
        return places
    if found.features == "shuffled":
        permuted: np.ndarray = places[permutation(len(places), seed)]
        return permuted
    raise ArmadaError(f"--control {control}: it needs all features at once; leave out --max-local-bytes")


def _blocks(rows: np.ndarray, size: int = 8192) -> Iterator[np.ndarray]:
    """Yield the rows in blocks that fit into the processor's cache: at least one block, which may be empty."""
    return (rows[start : start + size] for start in range(0, max(1, len(rows)), size))


def _digest(
    split: Split,
    pictures: Sequence[str],
    features: np.ndarray | ChosenRows,
    contents: Iterable[np.ndarray],
    combine: str | None = None,
) -> str:
    """Return the digest of a view. `pictures` has one or K digests per row; `contents` is features or checksums."""
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
    """Return the digest of the rows and labels alone. It determines the order of rows in an undistilled run."""
    lines = (f"{row} {label}\n" for row, label in zip(split.ids, split.labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
