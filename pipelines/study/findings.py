"""The findings of a study: every arm's values, the paired comparisons, and the verdict on the primary comparison.

The findings are a pure function of the study file and the finished runs, so a study that was killed and resumed has the
same findings as an uninterrupted one. Times and costs are in `costs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.study.config import Study
from pipelines.study.run import Run
from pipelines.study.run_folders import finished_outcomes
from pipelines.study.statistics import spread
from pipelines.study.verdicts.comparisons import Comparison, Measured, Tested, compare, families, number
from pipelines.study.verdicts.verdict import ReadoutVerdict, judge_readout

if TYPE_CHECKING:
    from distill import Split

READOUTS = {"finetune": "Fine-tuned", "probe": "Linear probe", "few_shot": "Few-shot"}


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
    by_readout: tuple[ReadoutVerdict, ...] = ()  # the verdict above is that of the primary one
    repeated: int = 0  # texts that several test rows or questions share, which are counted as clusters


def find(study: Study, out: Path, runs: list[Run], test: Split) -> Findings:
    """Return the findings of the finished runs in `out`; `test` are the rows that they were tested on."""
    outcomes = finished_outcomes(study, runs, out)
    measured = _measured(study, outcomes)
    tested = Tested(study, out, test)
    comparisons = tuple(
        comparison
        for readout in READOUTS
        for pairs, is_primary in families(study, readout, measured)
        for comparison in compare(tested, readout, pairs, is_primary, measured)
    )
    missing = len(runs) - len(outcomes)
    judged = [judge_readout(study, readout, comparisons, missing) for readout in READOUTS]
    primary = next(one for one in judged if one and one.is_primary)
    return Findings(
        verdict=primary.verdict,
        sentence=primary.sentence,
        finished=len(outcomes),
        planned=len(runs),
        measured=measured,
        comparisons=comparisons,
        curves=_curves(study, outcomes),
        test_rows=len(test.questions),
        tested_on="rows" if test.groups is None else "questions",
        by_readout=tuple(one for one in judged if one),
        repeated=tested.clusters.repeated,
    )


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
                found.append(Measured(readout, arm, tuple(values), tuple(values.values()), mean, number(sd)))
    return tuple(found)


def _curves(study: Study, outcomes: dict[Run, dict[str, Any]]) -> dict[str, list[float]]:
    curves = {}
    for arm in study.arms:
        mine = [found["curve"] for run, found in outcomes.items() if run.kind == "finetune" and run.arm == arm]
        if mine:
            curves[arm] = [float(value) for value in np.mean(mine, axis=0)]
    return curves
