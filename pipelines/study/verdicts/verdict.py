"""The verdict on each read-out of a study, with its reason in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.number_format import signed
from pipelines.study.config import Study
from pipelines.study.statistics import SEEDS_TO_TELL, verdicts
from pipelines.study.verdicts.comparisons import Comparison


@dataclass(frozen=True)
class ReadoutVerdict:
    """The verdict on one read-out, of the pairs of arms that the study file names, as far as they are measured there.

    `is_primary` is true under the read-out that the file names. The others are judged by the same rule, each as a
    family of its own: their level is not corrected for their number."""

    readout: str
    is_primary: bool
    verdict: str
    sentence: str
    against: tuple[str, ...]


def judge_readout(study: Study, readout: str, comparisons: Sequence[Comparison], missing: int) -> ReadoutVerdict | None:
    """Return the verdict on a read-out, `missing` runs of the study not being finished; None if none of the arms of the
    primary comparison is measured there."""
    is_primary = readout == study.primary.readout
    pairs = {(study.primary.arm, against) for against in study.primary.against}
    mine = [one for one in comparisons if one.readout == readout and (one.arm, one.against) in pairs]
    mine = [one for one in mine if one.is_primary == is_primary]
    if not mine and not is_primary:
        return None
    wanted = study.primary.against if is_primary else [one.against for one in mine]
    verdict, sentence = _judged(study, wanted, mine, missing)
    return ReadoutVerdict(readout, is_primary, verdict, sentence, tuple(one.against for one in mine))


def _judged(study: Study, against: Sequence[str], found: Sequence[Comparison], missing: int) -> tuple[str, str]:
    measured = "; ".join(f"{signed(one.mean)} against {one.against}" for one in found) or "nothing yet"
    if len(found) < len(against) or missing:
        return "cannot tell", f"{missing} runs are not finished. Measured so far: {measured}."
    seeds = min(one.seeds for one in found)
    if seeds < SEEDS_TO_TELL:
        return "cannot tell", f"{seeds} seeds, and at least {SEEDS_TO_TELL} are needed. Measured: {measured}."
    if not {"undistilled", "shuffled"} <= set(against):
        return "cannot tell", f"a verdict needs comparisons with undistilled and with shuffled. Measured: {measured}."
    low, high = (np.array([_end(one.bounds[side], side) for one in found]) for side in (0, 1))
    margin = study.primary.margin
    verdict = str(verdicts(low, high, margin, seeds))
    bounds = "; ".join(
        f"{signed(one.mean)} [{signed(one.bounds[0])}, {signed(one.bounds[1])}] against {one.against}" for one in found
    )
    why = {
        "helped": "every interval lies above zero",
        "did not help": f"an interval lies below the margin of {margin}, which rules such a gain out",
        "cannot tell": f"an interval reaches from zero or below to the margin of {margin} or above",
    }[verdict]
    return verdict, f"{study.primary.arm}: {bounds}; {why}. {counted(found)}"


def counted(comparisons: Sequence[Comparison]) -> str:
    """Return a sentence that says which kinds of chance intervals count."""
    if all(one.counts_rows for one in comparisons):
        return "The intervals count the chance of the seeds and of the test rows."
    return (
        "The intervals count the chance of the seeds alone: runs keep no predictions of these test rows, as before "
        "2026-12; run the study in a new folder to count both."
    )


def _end(end: float | None, side: int) -> float:
    """Return an interval's end; an unknown one is endless."""
    return (float("inf") if side else float("-inf")) if end is None else end
