"""The locks of the builds that run on one workspace: each build holds one as long as its process lives.

The kernel releases the lock of a killed process, so that what it had claimed is free.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from teacher_cache.files.disk import disk_errors_in_words

_BUILD = "build-"
BATCH = "batch:"  # begins the owner of a claim whose request is in a provider's batch, which outlives its build


class BuildLocks:
    """This build's lock, taken at once, and those of the others. `sealing` is the lock for builds that seal: they take
    turns."""

    def __init__(self, workspace: Path) -> None:
        self._folder = workspace / "locks"
        self.owner = uuid.uuid4().hex
        with disk_errors_in_words(str(self._folder)):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._own = FileLock(self._file(self.owner))
            self._own.acquire()
        self.sealing = FileLock(self._folder / "sealing.lock")

    def _file(self, owner: str) -> Path:
        return self._folder / f"{_BUILD}{owner}.lock"

    def release(self) -> None:
        """Give this build's lock up."""
        self._own.release()
        self._file(self.owner).unlink(missing_ok=True)

    def is_alive(self, owner: str) -> bool:
        """Return whether the build with this name runs. A batch lives until its rows are settled."""
        return owner.startswith(BATCH) or owner == self.owner or _is_held(self._file(owner))

    def others(self) -> bool:
        """Return whether any other build runs on this workspace."""
        own = self._file(self.owner)
        return any(_is_held(file) for file in self._folder.glob(f"{_BUILD}*.lock") if file != own)


def _is_held(file: Path) -> bool:
    if not file.exists():
        return False
    try:
        with FileLock(file, timeout=0):
            file.unlink(missing_ok=True)
            return False
    except Timeout:
        return True
