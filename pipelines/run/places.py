"""Checks of what a request names: the folder that is written, the cache, the trackers."""

from __future__ import annotations

import os
from pathlib import Path

from teacher_cache import ArmadaError, not_one_of


def check_folder(flag: str, folder: Path) -> None:
    """Raise ArmadaError if a folder can't be written where it is asked for."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise ArmadaError(f"{flag} {folder}: expected a folder, or a place for one, found a file at {there}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArmadaError(f"{flag} {folder}: expected a folder that can be written, found that {there} can't")


def check_cache(url: str | None) -> None:
    """Raise ArmadaError if a cache's URL is the path of a file."""
    if url is not None and not url.strip():
        raise ArmadaError("--cache: expected a folder or a URL, found nothing")
    if url is not None and "://" not in url and Path(url).is_file():
        raise ArmadaError(f"--cache {url}: expected a folder or a URL, found a file")


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
