"""Controls: arms in which the pictures carry no information about their row, or take no part. Fixed by a seed.

A control is applied after the join has checked the features, so `zero` is a choice here and never an accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from distill.settings import TrainSettings
from teacher_cache import ArmadaError

UNDISTILLED = "undistilled"


@dataclass(frozen=True)
class Control:
    """What a control changes: the features after the join, the encoder they come from, the aligner, or the losses."""

    words: str
    features: Literal["real", "shuffled", "noise", "zero", "random-per-picture"] = "real"
    encoder: str | None = None  # instead of the run's
    aligner: Literal["trained", "untrained", "none"] = "trained"
    zero_weights: bool = False  # alpha = beta = 0
    wide_head: bool = False  # the added parameters beside the task head, without a teacher


CONTROLS: dict[str, Control] = {
    "shuffled": Control("the real features, permuted among the rows", "shuffled"),
    "noise": Control("Gaussian noise of the real features' mean and covariance", "noise"),
    "zero": Control("zeros", "zero"),
    "random-per-picture": Control(
        "a random vector for each distinct picture: identity without content", "random-per-picture"
    ),
    "text-embedding": Control("the prompt's text embedding instead of a picture's", encoder="text:minilm"),
    "aux-only": Control("alpha = beta = 0; the added heads stay", aligner="untrained", zero_weights=True),
    "frozen-aligner": Control("the real features through a random aligner that was never trained", aligner="untrained"),
    "parameter-matched": Control(
        "the added parameters beside the task head, no teacher", aligner="none", wide_head=True
    ),
}
CONTROL_NAMES = (UNDISTILLED, *CONTROLS)


def find_control(name: str | None) -> Control | None:
    """The control of a name; None for a run without one, and for an undistilled run. Raises ArmadaError."""
    if name in (None, UNDISTILLED):
        return None
    if name not in CONTROLS:
        raise ArmadaError(f"--control: expected one of {', '.join(CONTROLS)}, found {name!r}")
    return CONTROLS[name]


def controlled_settings(name: str | None, settings: TrainSettings) -> TrainSettings:
    """The settings that a control trains with."""
    control = find_control(name)
    return replace(settings, alpha=0.0, beta=0.0) if control and control.zero_weights else settings


def apply_control(
    name: str | None, features: np.ndarray, seed: int, pictures: Sequence[str], together: int = 1
) -> np.ndarray:
    """The (N, L) features after a control, of the same type. `pictures` (N,) are the digests of the features' pictures.
    So many features in turn belong `together`: they are a row's, and stay so when rows are permuted."""
    control = find_control(name)
    kind = control.features if control else "real"
    if kind == "real":
        return features
    if kind == "zero":
        return np.zeros_like(features)
    if kind == "shuffled":
        order = permutation(len(features) // together, seed)
        shuffled: np.ndarray = features[(order[:, None] * together + np.arange(together)).reshape(-1)]
        return shuffled
    if kind == "noise":
        return _gaussian_like(features, len(features), _generator(seed))
    distinct, rows = np.unique(np.asarray(pictures), return_inverse=True)
    drawn: np.ndarray = _gaussian_like(features, len(distinct), _generator(seed))[rows]
    return drawn


def permutation(rows: int, seed: int) -> np.ndarray:
    """(N,) where each row's feature comes from under `shuffled`."""
    order: np.ndarray = _generator(seed).permutation(rows)
    return order


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _gaussian_like(features: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """(count, L) draws from the Gaussian with the mean and covariance of (N, L) features."""
    values = features.astype(np.float32)
    mean = values.mean(0)
    centred = (values - mean) / np.sqrt(max(len(values) - 1, 1))  # (N, L): its Gram matrix is the covariance
    if len(values) > values.shape[1]:
        spectrum, axes = np.linalg.eigh(centred.T @ centred)
        centred = (np.sqrt(spectrum.clip(0)) * axes).T  # (L, L)
    drawn = mean + generator.standard_normal((count, len(centred)), np.float32) @ centred
    return np.asarray(drawn, features.dtype)
