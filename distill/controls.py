"""Controls: arms in which the features carry no information about their row. Fixed by a seed."""

from __future__ import annotations

import numpy as np

from teacher_cache import ArmadaError

CONTROLS = ("shuffled",)


def apply_control(name: str | None, features: np.ndarray, seed: int) -> np.ndarray:
    """The (N, L) features after a control; `shuffled` permutes them among the rows. None leaves them as they are."""
    if name is None:
        return features
    if name == "shuffled":
        shuffled: np.ndarray = features[np.random.Generator(np.random.PCG64(seed)).permutation(len(features))]
        return shuffled
    raise ArmadaError(f"no control {name!r}; known: undistilled, {', '.join(CONTROLS)}")
