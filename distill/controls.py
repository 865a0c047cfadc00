"""Controls: arms of a study in which the pictures carry no information about their row, or are not used at all.

A control is a pure function of its inputs and a seed. It is applied after the join has checked the features, so a
feature of zeros is always a choice of the user and never damaged data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from distill.settings import TrainSettings
from teacher_cache import ArmadaError, not_one_of

UNDISTILLED = "undistilled"


@dataclass(frozen=True)
class Control:
    """What a control changes: the features after the join, their encoder, the aligner, or the losses."""

    words: str  # the description in reports
    features: Literal["real", "shuffled", "noise", "zero", "random-per-picture"] = "real"
    encoder: str | None = None  # replaces the encoder of the run
    aligner: Literal["trained", "untrained", "none"] = "trained"
    zero_weights: bool = False  # train with alpha = beta = 0
    wide_head: bool = False  # add the parameters of distillation to the task head, without a teacher

    @property
    def changes_features(self) -> bool:
        """True if a student that learns from features alone learns otherwise under this control."""
        return self.features != "real" or self.encoder is not None


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
    """Return the control of this name, or None for a run without a control and for an undistilled run.

    Raise ArmadaError if the name is unknown.
    """
    if name in (None, UNDISTILLED):
        return None
    if name not in CONTROLS:
        raise ArmadaError(f"--control: {not_one_of(CONTROL_NAMES, str(name))}")
    return CONTROLS[name]


def controlled_settings(name: str | None, settings: TrainSettings) -> TrainSettings:
    """Return the settings to train with under this control. Raise ArmadaError if its name is unknown."""
    control = find_control(name)
    if not control or not control.zero_weights:
        return settings
    if settings.objective == "crossfit":
        return replace(settings, alpha=0.0, contrast=0.0)
    return replace(settings, alpha=0.0, beta=0.0)


def apply_control(
    name: str | None, features: np.ndarray, seed: int, pictures: Sequence[str], together: int = 1
) -> np.ndarray:
    """Return the (N, L) features after a control, with the same data type. Raise ArmadaError if its name is unknown.

    Args:
        name: the control, or None.
        features: (N, L), the features after the join.
        seed: the seed of permutations and random numbers.
        pictures: (N,) digests of the pictures that the features were computed from.
        together: how many consecutive features belong to one row; a permutation of rows keeps them together.
    """
    control = find_control(name)
    kind = control.features if control else "real"
    if kind == "real":
        return features
    if kind == "zero":
        return np.zeros_like(features)
    if kind == "shuffled":
        shuffled: np.ndarray = features[_shuffled(len(features), seed, together)]
        return shuffled
    if kind == "noise":
        return _gaussian_like(features, len(features), _generator(seed))
    distinct, rows = np.unique(np.asarray(pictures), return_inverse=True)
    drawn: np.ndarray = _gaussian_like(features, len(distinct), _generator(seed))[rows]
    return drawn


def controlled_pictures(name: str | None, pictures: Sequence[str], seed: int, together: int = 1) -> np.ndarray:
    """Return a number for the picture of each feature after a control, (N,) int64: equal numbers, equal pictures.

    Arguments as of `apply_control`.
    """
    _, numbers = np.unique(np.asarray(pictures), return_inverse=True)
    control = find_control(name)
    if control and control.features == "shuffled":
        numbers = numbers[_shuffled(len(numbers), seed, together)]
    found: np.ndarray = numbers.astype(np.int64)
    return found


def _shuffled(features: int, seed: int, together: int) -> np.ndarray:
    """Return the place that `shuffled` takes each feature from, (N,)."""
    order = permutation(features // together, seed)
    places: np.ndarray = (order[:, None] * together + np.arange(together)).reshape(-1)
    return places


def permutation(rows: int, seed: int) -> np.ndarray:
    """Return the (N,) row numbers from which `shuffled` takes the feature of each row."""
    order: np.ndarray = _generator(seed).permutation(rows)
    return order


def _generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def _gaussian_like(features: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw (count, L) samples from the Gaussian with the mean and covariance of (N, L) features."""
    values = features.astype(np.float32)
    mean = values.mean(0)
    centred = (values - mean) / np.sqrt(max(len(values) - 1, 1))  # (N, L); its Gram matrix is the covariance
    if len(values) > values.shape[1]:
        spectrum, axes = np.linalg.eigh(centred.T @ centred)
        centred = (np.sqrt(spectrum.clip(0)) * axes).T  # (L, L)
    drawn = mean + generator.standard_normal((count, len(centred)), np.float32) @ centred
    return np.asarray(drawn, features.dtype)
