"""The cache of a study: every picture and feature that its arms need, within the study's calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipelines.study.config import Study, StudyFile
from teacher_cache import BudgetError, BuildOptions, Cache, build, open_encoder, open_teacher, source_of_teacher, status


@dataclass(frozen=True)
class ArmSources:
    """Where the features of an arm come from: specs of a teacher and an encoder, and the pictures per prompt."""

    teacher: str
    encoder: str
    samples: int = 1


def study_cache(study: Study, out: Path) -> str:
    """Return the folder or URL of a study's cache; by default it is in the study's output folder."""
    return study.cache or str(out / "cache")


def arm_sources(study: Study, arm: str, controlled: bool = True) -> ArmSources | None:
    """Return the sources of an arm; None for one without a teacher or with a file of features. With `controlled`, a
    control may choose another encoder, as in a run."""
    from distill import UNDISTILLED, find_control

    options = {**study.settings, **study.arms[arm].options}
    if options["control"] == UNDISTILLED or options.get("features"):
        return None
    encoder = str(options.get("encoder") or study.encoder or "")
    control = find_control(options["control"])
    if controlled and control and control.encoder and not encoder.startswith(control.encoder.partition(":")[0]):
        encoder = control.encoder
    samples = int(options.get("samples") or study.samples)
    return ArmSources(str(options.get("teacher") or study.teacher or ""), encoder, samples)


def build_cache(file: StudyFile, prompts: list[str], out: Path, say: Callable[[str], None]) -> None:
    """Build the pictures and features that the arms need in the study's own cache.

    Raise BudgetError if `max_calls`, of all teachers together, is reached before every picture is drawn.
    """
    study = file.study
    cache = Cache(study_cache(study, out), create=True)
    spent = {one.name: one.calls for one in status(cache)}
    for sources in _builds(arm_sources(study, arm) for arm in study.arms):
        teacher, encoder = open_teacher(sources.teacher), open_encoder(sources.encoder)
        name, left = source_of_teacher(teacher).name, None
        if study.max_calls is not None:
            left = max(0, study.max_calls - sum(calls for other, calls in spent.items() if other != name))
        report = build(cache, prompts, teacher, encoder, BuildOptions(samples=sources.samples, max_calls=left))
        spent[name] = report.calls_total
        calls = f"{report.calls} calls now, {sum(spent.values())} in all"
        say(f"cache: {len(prompts)} rows, teacher {sources.teacher}, encoder {sources.encoder}, {calls}")
        if report.stopped == "budget":
            raise BudgetError(
                f"{file.path}: max_calls: all {study.max_calls} calls are made, and pictures are still missing; "
                "nothing is lost: raise it and run the same command again"
            )


def _builds(wanted: Iterable[ArmSources | None]) -> list[ArmSources]:
    """Return one build per teacher and encoder, with the most pictures per prompt that an arm needs."""
    found: dict[tuple[str, str], ArmSources] = {}
    for one in wanted:
        if one is not None:
            known = found.get((one.teacher, one.encoder))
            found[one.teacher, one.encoder] = one if known is None or one.samples > known.samples else known
    return list(found.values())
