"""The costs of a study, and what they would be with a live teacher, from counted calls and measured times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.study.config import Study
from pipelines.study.run import Run
from pipelines.study.run_folders import finished_outcomes
from pipelines.study.runner import study_cache
from teacher_cache import Cache, open_encoder, open_teacher, source_of_encoder, source_of_teacher, status


@dataclass(frozen=True)
class Costs:
    """Calls, money and time with the cache, and `live_` for training without one: one call per row and distilled run.

    Times are None if this machine did not measure them.
    """

    rows: int
    taught_runs: int  # distilled runs; the name is that of results.json
    calls: int
    live_calls: int
    usd: float
    live_usd: float
    seconds_a_picture: float | None  # drawing and encoding
    stage_one_seconds: float | None
    live_seconds: float | None
    training_seconds: float  # of the students, summed over runs
    run_seconds: float  # the same with loading and read-outs


def study_costs(study: Study, out: Path, runs: list[Run], rows: int) -> Costs | None:
    """Return the costs of a study's finished runs, which train on `rows` rows; None if its cache no longer exists."""
    outcomes = finished_outcomes(study, runs, out)
    cache = study_cache(study, out)
    if "://" not in cache and not Path(cache).exists():
        return None
    teacher_source = source_of_teacher(open_teacher(study.teacher)).name
    states = [state for state in status(Cache(cache)) if state.name == teacher_source]
    if not states:
        return None
    one, encoder_source = states[0], source_of_encoder(open_encoder(study.encoder)).name
    encoded = [encoder.per_second for encoder in one.encoders if encoder.name == encoder_source and encoder.per_second]
    seconds = None
    if one.seconds_per_picture is not None and encoded:
        seconds = one.seconds_per_picture + 1 / encoded[0]
    distilled = sum(study.arms[run.arm].control != "undistilled" for run in outcomes)
    price = one.cost_usd / one.calls if one.calls else 0.0
    return Costs(
        rows=rows,
        taught_runs=distilled,
        calls=one.calls,
        live_calls=rows * distilled,
        usd=one.cost_usd,
        live_usd=price * rows * distilled,
        seconds_a_picture=seconds,
        stage_one_seconds=seconds * one.pictures if seconds else None,
        live_seconds=seconds * rows * distilled if seconds else None,
        training_seconds=sum(found["train_seconds"] for found in outcomes.values()),
        run_seconds=sum(found["seconds"] for found in outcomes.values()),
    )
