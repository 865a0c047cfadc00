"""Checks of what a request names: the cache, the files of features, the trackers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill import UNDISTILLED
from teacher_cache import ArmadaError, Cache, not_one_of

if TYPE_CHECKING:
    from pipelines.run.request import RunRequest


def check_sources(request: RunRequest) -> None:
    """Raise ArmadaError if the cache or the files of features that a run will read are not there."""
    for flag, path in (("--features", request.features), ("--feature-keys", request.feature_keys)):
        if path is not None and not path.is_file():
            raise ArmadaError(f"{flag}: no such file: {path}")
    if request.cache is not None and request.control != UNDISTILLED:
        Cache(request.cache)


def check_trackers(names: tuple[str, ...]) -> None:
    """Raise ArmadaError for a tracker that accelerate doesn't know, or whose package is not installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    installed = {str(getattr(one, "value", one)) for one in get_available_trackers()}
    for name in names:
        if name not in known:
            raise ArmadaError(f"--track: {not_one_of(known, name)}")
        if name not in installed:
            raise ArmadaError(f"--track {name}: its package is not installed: pip install {name}")
