"""Statistics of repeated runs: paired intervals over seeds, Holm's correction, power, and the verdict. Those that count
test rows too are in `verdicts/`.

With fewer than five seeds the verdict is always "cannot tell". All functions are pure. Arrays may have leading
dimensions of independent studies, so that a thousand studies are computed at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SEEDS_TO_TELL = 5


@dataclass(frozen=True)
class Paired:
    """Statistics of paired differences over S seeds: mean, standard deviation, p of a two-sided t test and effect.

    All are (...). The effect is Cohen's d of the differences, NaN if they have no spread.
    """

    mean: np.ndarray
    sd: np.ndarray
    p: np.ndarray
    effect: np.ndarray
    seeds: int

    def half_width(self, level: np.ndarray | float) -> np.ndarray:
        """Return half the width of the (1 - level) t interval."""
        from scipy import stats

        width: np.ndarray = stats.t.ppf(1 - np.asarray(level) / 2, self.seeds - 1) * self.sd / np.sqrt(self.seeds)
        return width


def paired(differences: np.ndarray) -> Paired:
    """Return the t test on (..., S) paired differences.

    With one seed the spread is NaN and p = 1. If the differences are all equal, p is 1 for a mean of zero, else 0.
    """
    from scipy import stats

    seeds = differences.shape[-1]
    mean = differences.mean(-1)
    if seeds < 2:
        undefined = np.full(mean.shape, np.nan)
        return Paired(mean, undefined, np.ones(mean.shape), undefined, seeds)
    sd = differences.std(-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = mean / sd
        p = 2 * stats.t.sf(np.abs(effect) * np.sqrt(seeds), seeds - 1)
    return Paired(mean, sd, np.where(np.isnan(p), 1.0, p), np.where(sd > 0, effect, np.nan), seeds)


def holm_levels(p: np.ndarray, level: float) -> np.ndarray:
    """Return the level of each of (..., M) comparisons, from their p, at which its interval agrees with Holm's test.

    The i-th smallest p (i from 0) has level / (M - i). From the first p that isn't rejected on, all have its level.
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
    """Return Holm's adjusted p of (M,) comparisons.

    As statsmodels' multipletests, which collects garbage in each call: a second in a large process.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    return adjusted


def smallest_detectable(sd: float, seeds: int, level: float, power: float) -> float:
    """Return the true mean difference that a two-sided paired t test finds with this power.

    `sd` is the standard deviation of the differences. NaN with fewer than two seeds.
    """
    from statsmodels.stats.power import TTestPower

    if seeds < 2 or not np.isfinite(sd):
        return float("nan")
    if sd == 0:
        return 0.0
    return float(TTestPower().solve_power(nobs=seeds, alpha=level, power=power)) * sd


def verdicts(low: np.ndarray, high: np.ndarray, margin: float, seeds: int) -> np.ndarray:
    """Return (...) verdicts from (..., M) Holm-adjusted intervals of the primary arm minus the arms it is compared to.

    helped: every interval is above zero. did not help: one interval is wholly below `margin`, which rules out a gain
    worth having. cannot tell: neither of these, or fewer than five seeds.
    """
    found = np.full(low.shape[:-1], "cannot tell", dtype="<U12")
    if seeds < SEEDS_TO_TELL:
        return found
    found[(high < margin).any(-1)] = "did not help"
    found[(low > 0).all(-1)] = "helped"
    return found


def judge(differences: np.ndarray, level: float, margin: float) -> np.ndarray:
    """Return (...) verdicts from (..., M, S) differences of M comparisons over S seeds."""
    result = paired(differences)
    half = result.half_width(holm_levels(result.p, level))
    return verdicts(result.mean - half, result.mean + half, margin, result.seeds)


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation; the deviation of one value is NaN."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
