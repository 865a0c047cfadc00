"""The paired comparisons of a study: over seeds, over test questions, and over both, with Holm's correction by family.

The p of a comparison is the larger one of those over seeds alone and over seeds and questions, and so is the interval
that a verdict judges: the stricter rule holds. Where a run kept no predictions, seeds alone are judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.study.config import Study
from pipelines.study.predictions import load_predictions
from pipelines.study.run import Run
from pipelines.study.statistics import holm, holm_levels, paired, smallest_detectable
from pipelines.study.verdicts.chance import Chance, chance_of
from pipelines.study.verdicts.clusters import Clusters, clusters_of_split
from pipelines.study.verdicts.metric_parts import MEANS, metric_parts

if TYPE_CHECKING:
    from distill import Split


@dataclass(frozen=True)
class Measured:
    """An arm's metric under one read-out, per finished seed, in the order of the study's seeds."""

    readout: str
    arm: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Comparison:
    """`arm` minus `against` under one read-out, paired by seed and by test question.

    `low` and `high` bound the t interval over seeds, `both_low` and `both_high` that over seeds and test questions, at
    `level`, the level of Holm's procedure within the family of comparisons. `rows_low` and `rows_high` bound the
    interval over test questions alone, at the study's level. `p` is over seeds, `p_both` over seeds and questions, and
    `p_holm` corrects the larger one. What needs predictions that were not kept is None.
    """

    readout: str
    arm: str
    against: str
    is_primary: bool
    seeds: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    level: float
    p: float
    p_holm: float
    effect: float | None
    detectable: float | None
    rows_low: float | None
    rows_high: float | None
    both_low: float | None = None
    both_high: float | None = None
    p_both: float | None = None

    @property
    def counts_rows(self) -> bool:
        """True if the luck of the test rows is counted too."""
        return self.p_both is not None

    @property
    def has_no_spread(self) -> bool:
        """True if every one of several seeds gave the same difference, so that a t test over seeds says nothing."""
        return self.seeds > 1 and self.sd is not None and self.sd < 1e-12

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """The interval that a verdict judges: the wider end of each side; None if that is endless."""
        if not self.counts_rows:
            return self.low, self.high
        if None in (self.low, self.high, self.both_low, self.both_high):
            return None, None
        return min(self.low, self.both_low), max(self.high, self.both_high)  # type: ignore[type-var]


@dataclass(frozen=True)
class Tested:
    """The test questions of a study, and what the runs in `out` predicted for them. A prediction is read once."""

    study: Study
    out: Path
    test: Split
    _parts: dict[tuple[str, str, int], np.ndarray | None] = field(default_factory=dict)

    @cached_property
    def clusters(self) -> Clusters:
        """The questions that share texts."""
        return clusters_of_split(self.test)

    def parts(self, readout: str, arm: str, seed: int, value: float) -> np.ndarray | None:
        """Return what each question adds to the metric of a run, (Q,); None if its predictions are not kept, or if they
        don't give the run's own `value` of the metric: then they are of other rows."""
        place = readout, arm, seed
        if place not in self._parts:
            self._parts[place] = self._read(readout, arm, seed, value)
        return self._parts[place]

    def _read(self, readout: str, arm: str, seed: int, value: float) -> np.ndarray | None:
        kind = "few_shot" if readout == "few_shot" else "finetune"
        folder = self.out / "runs" / Run(kind, arm, seed).name
        predictions = load_predictions(folder, readout, self.test.ids)
        if predictions is None:
            return None
        parts = metric_parts(self.study.card, self.study.metric, predictions, self.test)
        return parts if self.study.metric not in MEANS or abs(parts.mean() - value) < 1e-4 else None


def families(study: Study, readout: str, measured: Sequence[Measured]) -> list[tuple[list[tuple[str, str]], bool]]:
    """Return two families of pairs, each with whether it is the primary one; Holm's correction is made within a family.

    The first one has the pairs that the study file names, and is the primary one under the read-out that the file
    names. The other one compares the primary arm with the other arms, and these with undistilled.
    """
    present = [found.arm for found in measured if found.readout == readout]
    primary = study.primary
    named = [(primary.arm, against) for against in primary.against]
    others = [(primary.arm, arm) for arm in present if arm != primary.arm]
    others += [(arm, "undistilled") for arm in present if arm not in (primary.arm, "undistilled")]
    named, others = (
        [pair for pair in pairs if set(pair) <= set(present)]
        for pairs in (named, [pair for pair in others if pair not in named])
    )
    return [(named, readout == primary.readout), (others, False)]


def compare(
    tested: Tested, readout: str, pairs: Sequence[tuple[str, str]], is_primary: bool, measured: Sequence[Measured]
) -> list[Comparison]:
    """Return the comparisons of one family under one read-out; those of pairs without a common seed are left out."""
    primary = tested.study.primary
    by_arm = {
        found.arm: dict(zip(found.seeds, found.values, strict=True)) for found in measured if found.readout == readout
    }
    shared = [
        [seed for seed in tested.study.seeds if seed in by_arm[one] and seed in by_arm[two]] for one, two in pairs
    ]
    kept = [(pair, seeds) for pair, seeds in zip(pairs, shared, strict=True) if seeds]
    if not kept:
        return []
    over_seeds = [paired(_differences(by_arm, pair, seeds)) for pair, seeds in kept]
    over_both = [_chance(tested, readout, pair, seeds, by_arm) for pair, seeds in kept]
    p = np.array([max(float(s.p), float(b.p) if b else 0.0) for s, b in zip(over_seeds, over_both, strict=True)])
    levels, adjusted = holm_levels(p, primary.level), holm(p)
    strictest = primary.level / len(kept)
    found = []
    for place, ((arm, other), seeds) in enumerate(kept):
        seen, chance, level = over_seeds[place], over_both[place], float(levels[place])
        mean = float(seen.mean)
        found.append(
            Comparison(
                readout,
                arm,
                other,
                is_primary,
                len(seeds),
                mean,
                number(float(seen.sd)),
                *_around(mean, float(seen.half_width(level))),
                level,
                float(seen.p),
                float(adjusted[place]),
                number(float(seen.effect)),
                number(smallest_detectable(float(seen.sd), len(seeds), strictest, primary.power)),
                *_around(mean, float(chance.question_half_width(primary.level)) if chance else math.nan),
                *_around(mean, float(chance.half_width(level)) if chance else math.nan),
                float(chance.p) if chance else None,
            )
        )
    return found


def _differences(by_arm: dict[str, dict[int, float]], pair: tuple[str, str], seeds: list[int]) -> np.ndarray:
    arm, other = (by_arm[name] for name in pair)
    return np.array([arm[seed] - other[seed] for seed in seeds])


def _chance(
    tested: Tested, readout: str, pair: tuple[str, str], seeds: list[int], by_arm: dict[str, dict[int, float]]
) -> Chance | None:
    """Return both kinds of chance in the difference of a pair; None if predictions are not kept."""
    sides = [[tested.parts(readout, arm, seed, by_arm[arm][seed]) for seed in seeds] for arm in pair]
    if any(parts is None for side in sides for parts in side):
        return None
    arm, other = (np.array(side, np.float64) for side in sides)
    return chance_of(_differences(by_arm, pair, seeds), arm - other, tested.clusters)


def _around(mean: float, half: float) -> tuple[float | None, float | None]:
    return number(mean - half), number(mean + half)


def number(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON does not have."""
    return None if math.isnan(value) or math.isinf(value) else value
