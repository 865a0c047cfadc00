"""What a study cost and what it would have cost with a live teacher, from calls that were counted and times that were
measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.study.config import Study
from pipelines.study.run import Run, read_outcome
from teacher_cache import Cache, open_encoder, open_teacher, source_of_encoder, source_of_teacher, status


@dataclass(frozen=True)
class Costs:
    """`cached` is what was asked and spent once; `live` the same for every taught run, as a training without a cache
    asks, once a row and run. Times are None where this machine did not measure them."""

    rows: int
    taught_runs: int
    calls: int
    live_calls: int
    usd: float
    live_usd: float
    seconds_a_picture: float | None  # drawn and encoded
    stage_one_seconds: float | None
    live_seconds: float | None
    training_seconds: float  # of the students, all runs
    run_seconds: float  # with loading and read-outs


def study_costs(study: Study, out: Path, runs: list[Run]) -> Costs | None:
    """None where the cache isn't there any more."""
    outcomes = {run: found for run in runs if (found := read_outcome(out / "runs" / run.name))}
    cache = Path(study.cache) if study.cache else out / "cache"
    if "://" not in str(study.cache) and not cache.exists():
        return None
    teacher_source = source_of_teacher(open_teacher(study.teacher)).name
    states = [state for state in status(Cache(study.cache or str(cache))) if state.name == teacher_source]
    if not states:
        return None
    one, encoder_source = states[0], source_of_encoder(open_encoder(study.encoder)).name
    encoded = [encoder.per_second for encoder in one.encoders if encoder.name == encoder_source and encoder.per_second]
    seconds = None
    if one.seconds_per_picture is not None and encoded:
        seconds = one.seconds_per_picture + 1 / encoded[0]
    rows, taught = study.rows.train, sum(study.arms[run.arm].control != "undistilled" for run in outcomes)
    price = one.cost_usd / one.calls if one.calls else 0.0
    return Costs(
        rows=rows,
        taught_runs=taught,
        calls=one.calls,
        live_calls=rows * taught,
        usd=one.cost_usd,
        live_usd=price * rows * taught,
        seconds_a_picture=seconds,
        stage_one_seconds=seconds * one.pictures if seconds else None,
        live_seconds=seconds * rows * taught if seconds else None,
        training_seconds=sum(found["train_seconds"] for found in outcomes.values()),
        run_seconds=sum(found["seconds"] for found in outcomes.values()),
    )
