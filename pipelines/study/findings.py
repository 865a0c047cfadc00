"""The findings of a study: every arm's values, the paired comparisons, and the verdict on the primary comparison.

The findings are a pure function of the study file and the finished runs, so a study that was killed and resumed has the
same findings as an uninterrupted one. Times and costs are in `costs.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.number_format import signed
from pipelines.study.config import Study
from pipelines.study.predictions import load_predictions, scores_by_question
from pipelines.study.run import Run
from pipelines.study.run_folders import finished_outcomes
from pipelines.study.statistics import (
    SEEDS_TO_TELL,
    bootstrap_rows,
    holm,
    holm_levels,
    paired,
    smallest_detectable,
    spread,
    verdicts as judged,
)

if TYPE_CHECKING:
    from distill import Split

READOUTS = {"finetune": "Fine-tuned", "probe": "Linear probe", "few_shot": "Few-shot"}


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
    """`arm` minus `against` under one read-out, paired by seed.

    `low` and `high` bound the t interval at `level`, the level of Holm's procedure within the family of comparisons.
    `rows_low` and `rows_high` bound the bootstrap interval over test rows.
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


@dataclass(frozen=True)
class Findings:
    """The content of a report except costs and times."""

    verdict: str
    sentence: str
    finished: int
    planned: int
    measured: tuple[Measured, ...]
    comparisons: tuple[Comparison, ...]
    curves: dict[str, list[float]]  # mean task loss by epoch of the fine-tuned arms
    test_rows: int = 0  # rows that every arm is tested on; questions, if a row of the task is a question with choices
    tested_on: str = "rows"  # "rows" or "questions"


def find(study: Study, out: Path, runs: list[Run], test: Split) -> Findings:
    """Return the findings of the finished runs in `out`; `test` are the rows that they were tested on."""
    outcomes = finished_outcomes(study, runs, out)
    measured = _measured(study, outcomes)
    comparisons = tuple(
        comparison
        for readout in READOUTS
        for pairs, is_primary in _families(study, readout, measured)
        for comparison in _family(study, out, readout, pairs, is_primary, measured, test)
    )
    verdict, sentence = _verdict(study, comparisons, len(runs) - len(outcomes))
    counts = len(outcomes), len(runs)
    tested_on = "rows" if test.groups is None else "questions"
    curves = _curves(study, outcomes)
    return Findings(verdict, sentence, *counts, measured, comparisons, curves, len(test.questions), tested_on)


def _measured(study: Study, outcomes: dict[Run, dict[str, Any]]) -> tuple[Measured, ...]:
    found = []
    for readout in READOUTS:
        for arm in study.arms:
            values = {
                run.seed: outcome["readouts"][readout][study.metric]
                for run, outcome in outcomes.items()
                if run.arm == arm and readout in outcome["readouts"]
            }
            if values:
                mean, sd = spread(list(values.values()))
                found.append(Measured(readout, arm, tuple(values), tuple(values.values()), mean, _number(sd)))
    return tuple(found)


def _families(study: Study, readout: str, measured: tuple[Measured, ...]) -> list[tuple[list[tuple[str, str]], bool]]:
    """Return two families of pairs, each with whether it is the primary one; Holm's correction is made within a family.

    The primary family decides the verdict. The other one compares the primary arm with the other arms, and these with
    undistilled.
    """
    present = [found.arm for found in measured if found.readout == readout]
    primary = study.primary
    confirmed = [(primary.arm, against) for against in primary.against] if readout == primary.readout else []
    others = [(primary.arm, arm) for arm in present if arm != primary.arm]
    others += [(arm, "undistilled") for arm in present if arm not in (primary.arm, "undistilled")]
    confirmed, others = (
        [pair for pair in pairs if set(pair) <= set(present)]
        for pairs in (confirmed, [pair for pair in others if pair not in confirmed])
    )
    return [(confirmed, True), (others, False)]


def _family(
    study: Study,
    out: Path,
    readout: str,
    pairs: list[tuple[str, str]],
    is_primary: bool,
    measured: tuple[Measured, ...],
    tested: Split,
) -> list[Comparison]:
    by_arm = {
        found.arm: dict(zip(found.seeds, found.values, strict=True)) for found in measured if found.readout == readout
    }
    shared = [[seed for seed in study.seeds if seed in by_arm[arm] and seed in by_arm[other]] for arm, other in pairs]
    pairs = [pair for pair, seeds in zip(pairs, shared, strict=True) if seeds]
    shared = [seeds for seeds in shared if seeds]
    if not pairs:
        return []
    tests = [
        paired(np.array([by_arm[arm][seed] - by_arm[other][seed] for seed in seeds]))
        for (arm, other), seeds in zip(pairs, shared, strict=True)
    ]
    p = np.array([float(test.p) for test in tests])
    levels, adjusted = holm_levels(p, study.primary.level), holm(p)
    strictest = study.primary.level / len(pairs)
    found = []
    for (arm, other), seeds, test, level, p_holm in zip(pairs, shared, tests, levels, adjusted, strict=True):
        half = float(test.half_width(float(level)))
        rows = _rows(study, out, readout, arm, other, seeds, tested)
        found.append(
            Comparison(
                readout,
                arm,
                other,
                is_primary,
                len(seeds),
                float(test.mean),
                _number(float(test.sd)),
                _number(float(test.mean) - half),
                _number(float(test.mean) + half),
                float(level),
                float(test.p),
                float(p_holm),
                _number(float(test.effect)),
                _number(smallest_detectable(float(test.sd), len(seeds), strictest, study.primary.power)),
                *rows,
            )
        )
    return found


def _rows(
    study: Study, out: Path, readout: str, arm: str, other: str, seeds: list[int], tested: Split
) -> tuple[float | None, float | None]:
    """Return the bootstrap interval over test questions of the difference in the metric.

    None, None if the metric is no mean over questions, or if the predictions are not kept.
    """
    kind = "few_shot" if readout == "few_shot" else "finetune"
    means = []
    for name in (arm, other):
        found = [load_predictions(out / "runs" / Run(kind, name, seed).name, readout, tested.ids) for seed in seeds]
        scores = [None if one is None else scores_by_question(study.card, study.metric, one, tested) for one in found]
        if any(one is None for one in scores):
            return None, None
        means.append(np.mean([one for one in scores if one is not None], axis=0))
    return bootstrap_rows(means[0] - means[1], study.primary.level, 0)


def _verdict(study: Study, comparisons: tuple[Comparison, ...], missing: int) -> tuple[str, str]:
    """Return the verdict and a sentence with its reason."""
    primary = [found for found in comparisons if found.is_primary]
    against = study.primary.against
    measured = "; ".join(f"{signed(found.mean)} against {found.against}" for found in primary) or "nothing yet"
    if len(primary) < len(against) or missing:
        return "cannot tell", f"{missing} runs are not finished. Measured so far: {measured}."
    seeds = min(found.seeds for found in primary)
    if seeds < SEEDS_TO_TELL:
        return "cannot tell", f"{seeds} seeds, and at least {SEEDS_TO_TELL} are needed. Measured: {measured}."
    if not {"undistilled", "shuffled"} <= set(against):
        return "cannot tell", f"a verdict needs comparisons with undistilled and with shuffled. Measured: {measured}."
    low, high = (np.array([getattr(found, end) for found in primary]) for end in ("low", "high"))
    verdict = str(judged(low, high, study.primary.margin, seeds))
    bounds = "; ".join(f"{signed(f.mean)} [{signed(f.low)}, {signed(f.high)}] against {f.against}" for f in primary)
    why = {
        "helped": "every interval lies above zero",
        "did not help": f"an interval lies below the margin of {study.primary.margin}, which rules such a gain out",
        "cannot tell": f"an interval reaches from zero or below to the margin of {study.primary.margin} or above",
    }[verdict]
    return verdict, f"{study.primary.arm}: {bounds}; {why}."


def _curves(study: Study, outcomes: dict[Run, dict[str, Any]]) -> dict[str, list[float]]:
    curves = {}
    for arm in study.arms:
        mine = [found["curve"] for run, found in outcomes.items() if run.kind == "finetune" and run.arm == arm]
        if mine:
            curves[arm] = [float(value) for value in np.mean(mine, axis=0)]
    return curves


def _number(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON does not have."""
    return None if math.isnan(value) or math.isinf(value) else value
