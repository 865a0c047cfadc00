"""What repeated runs say of a difference: paired intervals over seeds, Holm's correction, power, and the verdict.

Under five seeds the verdict is always "cannot tell". All functions are pure; arrays may carry leading dimensions of
independent studies, so that a thousand of them are computed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Verdict = Literal["helped", "did not help", "cannot tell"]
SEEDS_TO_TELL = 5


@dataclass(frozen=True)
class Paired:
    """Paired differences over S seeds, (...) each: their mean, standard deviation, two-sided p of a t test, and effect
    size (Cohen's d of the differences; None-like NaN where they have no spread)."""

    mean: np.ndarray
    sd: np.ndarray
    p: np.ndarray
    effect: np.ndarray
    seeds: int

    def half_width(self, level: np.ndarray | float) -> np.ndarray:
        """Half of the (1 - level) t interval's width."""
        from scipy import stats

        width: np.ndarray = stats.t.ppf(1 - np.asarray(level) / 2, self.seeds - 1) * self.sd / np.sqrt(self.seeds)
        return width


def paired(differences: np.ndarray) -> Paired:
    """A t test on (..., S) paired differences. One seed has no spread: NaN and p = 1. Without any spread p is 1 for a
    mean of zero and 0 for another."""
    from scipy import stats

    seeds = differences.shape[-1]
    mean = differences.mean(-1)
    if seeds < 2:
        nothing = np.full(mean.shape, np.nan)
        return Paired(mean, nothing, np.ones(mean.shape), nothing, seeds)
    sd = differences.std(-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = mean / sd
        p = 2 * stats.t.sf(np.abs(effect) * np.sqrt(seeds), seeds - 1)
    return Paired(mean, sd, np.where(np.isnan(p), 1.0, p), np.where(sd > 0, effect, np.nan), seeds)


def holm_levels(p: np.ndarray, level: float) -> np.ndarray:
    """The level at which each of (..., M) comparisons is judged: interval and test at it agree with Holm's step-down
    procedure. The i-th smallest p has level / (M - i), until the first that isn't rejected, whose level the rest have.
    """
    count = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    steps = np.broadcast_to(level / (count - np.arange(count)), p.shape)
    kept = np.take_along_axis(p, order, -1) > steps
    first = np.where(kept.any(-1), kept.argmax(-1), count - 1)[..., None]
    sorted_levels = np.where(np.arange(count) > first, np.take_along_axis(steps, first, -1), steps)
    levels = np.empty(p.shape)
    np.put_along_axis(levels, order, sorted_levels, -1)
    return levels


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p of (M,) comparisons."""
    from statsmodels.stats.multitest import multipletests

    adjusted: np.ndarray = multipletests(p, method="holm")[1]
    return adjusted


def smallest_detectable(sd: float, seeds: int, level: float, power: float) -> float:
    """The true mean difference that a two-sided paired t test finds with this power, given the differences' spread."""
    from statsmodels.stats.power import TTestPower

    if seeds < 2 or not np.isfinite(sd):
        return float("nan")
    if sd == 0:
        return 0.0
    return float(TTestPower().solve_power(nobs=seeds, alpha=level, power=power)) * sd


def bootstrap_rows(differences: np.ndarray, level: float, seed: int, times: int = 2000) -> tuple[float, float]:
    """A percentile interval of the mean of (N,) differences a test row, over rows drawn anew."""
    from scipy import stats

    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    values, counts = np.unique(differences, return_counts=True)  # few distinct ones: rows are drawn by their counts
    if len(values) <= 64:
        generator = np.random.Generator(np.random.PCG64(seed))
        drawn = generator.multinomial(len(differences), counts / len(differences), times) @ values / len(differences)
        low, high = np.quantile(drawn, [level / 2, 1 - level / 2])
        return float(low), float(high)
    found = stats.bootstrap(
        (differences,), np.mean, n_resamples=times, confidence_level=1 - level, method="percentile", rng=seed, batch=100
    ).confidence_interval
    return float(found.low), float(found.high)


def verdicts(low: np.ndarray, high: np.ndarray, margin: float, seeds: int) -> np.ndarray:
    """(...) verdicts from (..., M) Holm-adjusted intervals of the primary arm's differences to undistilled and to each
    control that it is compared with.

    helped: every interval lies above zero. did not help: the interval to one of them lies below `margin`, the whole of
    it, so that a gain worth having is ruled out. cannot tell: neither; and always under five seeds.
    """
    found = np.full(low.shape[:-1], "cannot tell", dtype="<U12")
    if seeds < SEEDS_TO_TELL:
        return found
    found[(high < margin).any(-1)] = "did not help"
    found[(low > 0).all(-1)] = "helped"
    return found


def judge(differences: np.ndarray, level: float, margin: float) -> np.ndarray:
    """(...) verdicts from (..., M, S) differences of M comparisons over S seeds."""
    result = paired(differences)
    half = result.half_width(holm_levels(result.p, level))
    return verdicts(result.mean - half, result.mean + half, margin, result.seeds)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; NaN for the deviation of one value."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
