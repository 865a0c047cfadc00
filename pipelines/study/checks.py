"""What is checked of a study before its teachers are called: each arm's options, sources, student and features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.study.config import Study
from pipelines.study.run import Run, request_of
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill import Splits
    from pipelines.run.request import RunRequest


def check_arms(study: Study, splits: Splits, out: Path, cache: str) -> None:
    """Load the student of every arm once, open its teacher and its encoder, and look for its features where the cache
    is not the study's own. Raise ArmadaError, which names the arm, if one cannot do its part."""
    requests = {}
    for arm in study.arms:
        with _of(study, arm):
            requests[arm] = request_of(study, Run("finetune", arm, study.seeds[0]), out, cache, study.settings)
            _check_sources(requests[arm])
    students: set[object] = set()
    for arm, request in requests.items():
        with _of(study, arm):
            students.add(_checked_student(study, request, splits, students))
    found = {arm: request for arm, request in requests.items() if study.cache or request.features}
    _check_features(study, found, splits)


def _check_sources(request: RunRequest) -> None:
    from distill import UNDISTILLED
    from pipelines.run.request import check_request
    from teacher_cache import open_encoder, open_teacher

    check_request(request)
    if request.control == UNDISTILLED:
        return
    if request.teacher:
        with _at("teacher"):
            open_teacher(request.teacher)
    if request.encoder:
        with _at("encoder"):
            open_encoder(request.encoder)


def _checked_student(study: Study, request: RunRequest, splits: Splits, seen: set[object]) -> object:
    """Return what names the student of a request, after it has been loaded unless it is in `seen`."""
    from distill import open_task_model, with_length
    from pipelines.run.student import spec_of

    spec = spec_of(request)
    if spec not in seen:
        settings = with_length(spec, study.card, splits.train, request.settings)
        open_task_model(spec, study.card, splits.train, settings)
    return spec


def _check_features(study: Study, requests: dict[str, RunRequest], splits: Splits) -> None:
    from distill import UNDISTILLED
    from pipelines.run.features import join_view

    seen = set()
    for arm, request in requests.items():
        sources = request.teacher, request.encoder, request.control, request.samples, request.missing, request.features
        if request.control != UNDISTILLED and sources not in seen:
            seen.add(sources)
            with _of(study, arm):
                join_view(request, study.card, splits)


@contextmanager
def _of(study: Study, arm: str) -> Iterator[None]:
    """Name the study and the arm in an error, with its exit code."""
    try:
        yield
    except ArmadaError as error:
        place = f"study {study.name}, arm {arm}: "
        error.args = (place + str(error).removeprefix(place),)
        raise


@contextmanager
def _at(key: str) -> Iterator[None]:
    try:
        yield
    except ArmadaError as error:
        error.args = (f"{key}: {error}",)
        raise
