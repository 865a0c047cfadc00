"""Losses have to be finite: training stops at the first step where they are not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from teacher_cache import ArmadaError


def refuse_not_finite(
    values: Tensor, before: int, what: str, flag: str = "--lr", names: Sequence[str] = ("loss",), kept: str = ""
) -> None:
    """Raise ArmadaError, naming the step, if a value is a NaN or an infinity. It waits for the device of the values.

    Args:
        values: (steps, terms), what was computed in each step.
        before: the number of steps before the first of them.
        what: what is trained.
        flag: the option of the learning rate.
        names: the names of the terms, in their order.
        kept: what is kept, for the message.
    """
    wrong = (~torch.isfinite(values)).nonzero()
    if not len(wrong):
        return
    step, term = wrong[0].tolist()
    name = names[term] if term < len(names) else names[-1]
    raise ArmadaError(
        f"{what}: step {before + step + 1}: expected a finite {name}, found {values[step, term].item()}; training "
        f"diverged, so it stops and nothing is exported{kept}; choose a smaller {flag}, or check the student's weights "
        "and the labels"
    )
