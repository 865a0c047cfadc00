"""The costs of a study, and what they would be with a live teacher, from counted calls and measured times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.study.building import ArmSources, arm_sources, study_cache
from pipelines.study.config import Study
from pipelines.study.run import Run
from pipelines.study.run_folders import finished_outcomes
from teacher_cache import (
    Cache,
    RewriterStatus,
    TeacherStatus,
    open_encoder,
    open_teacher,
    rewriter_status,
    source_of_encoder,
    source_of_teacher,
    status,
)


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
    """Return the costs of a study's finished runs, which train on `rows` rows; None if its cache no longer exists, or
    if the study leaves it to the cache which teacher and encoder it has."""
    outcomes = finished_outcomes(study, runs, out)
    cache = study_cache(study, out)
    of_arm = {arm: arm_sources(study, arm, controlled=False) for arm in study.arms}
    sources = list(dict.fromkeys(one for one in of_arm.values() if one))
    if "://" not in cache and not Path(cache).exists():
        return None
    if not all(one.teacher and one.encoder for one in sources):
        return None
    found = {state.name: state for state in status(Cache(cache))}
    names = {one.teacher: source_of_teacher(open_teacher(one.teacher)).name for one in sources}
    states = {teacher: found[name] for teacher, name in names.items() if name in found}
    if not states:
        return None
    encoding = {one: _encoding_seconds(states.get(one.teacher), one) for one in sources}
    seconds = {one: _sum([_drawing_seconds(states.get(one.teacher)), encoding[one]]) for one in sources}
    distilled = [one for run in outcomes if (one := of_arm[run.arm])]
    drawing = sum(one.calls for one in states.values())
    rewriters = [one for one in rewriter_status(Cache(cache)) if set(one.teachers) & set(names.values())]
    spent: list[TeacherStatus | RewriterStatus] = [*states.values(), *rewriters]
    calls, usd = sum(one.calls for one in spent), sum(one.cost_usd for one in spent)
    drawn = [_times(_drawing_seconds(state), state.pictures) for state in states.values()]
    encoded = [_times(encoding[one], states[one.teacher].pictures) for one in sources if one.teacher in states]
    return Costs(
        rows=rows,
        taught_runs=len(distilled),
        calls=calls,
        live_calls=rows * len(distilled),
        usd=usd,
        live_usd=(usd / drawing if drawing else 0.0) * rows * len(distilled),
        seconds_a_picture=seconds[sources[0]],
        stage_one_seconds=_sum([*drawn, *encoded]),
        live_seconds=_times(_sum([seconds[one] for one in distilled]), rows),
        training_seconds=sum(found["train_seconds"] for found in outcomes.values()),
        run_seconds=sum(found["seconds"] for found in outcomes.values()),
    )


def _drawing_seconds(state: TeacherStatus | None) -> float | None:
    """Return the seconds per picture of a teacher; None if they were not measured."""
    return state.seconds_per_picture if state else None


def _encoding_seconds(state: TeacherStatus | None, sources: ArmSources) -> float | None:
    """Return the seconds per picture of an encoder; None if they were not measured on this host."""
    name = source_of_encoder(open_encoder(sources.encoder)).name
    rates = [one.per_second for one in state.encoders if one.name == name] if state else []
    return 1 / rates[0] if rates and rates[0] else None


def _sum(parts: Iterable[float | None]) -> float | None:
    """Return the sum; None if a part is unknown."""
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)


def _times(seconds: float | None, count: int) -> float | None:
    return None if seconds is None else seconds * count
