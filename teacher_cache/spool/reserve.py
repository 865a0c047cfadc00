"""The reserve: room on the disk of the spool that is kept for answers that have been paid for.

It is a file, taken before the first call and given up when the disk is full: then the answers of the calls in flight
are stored in its place, no further call is sent, and the build ends.
"""

from __future__ import annotations

import os
from pathlib import Path

from teacher_cache.files.disk import disk_errors_in_words

_PREFIX = "reserve-"
_ZEROS = bytes(1 << 20)


class Reserve:
    """The reserve of one build, in the folder of its spool."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._file = folder / f"{_PREFIX}{owner}"
        self._bytes = 0

    def grow(self, size: int) -> None:
        """Keep at least `size` bytes. Raise DiskFullError if the disk does not have them."""
        if size <= self._bytes:
            return
        try:
            with disk_errors_in_words(str(self._file.parent)), self._file.open("ab") as stream:
                _allocate(stream.fileno(), self._bytes, size - self._bytes)
        except BaseException:
            self._file.unlink(missing_ok=True)
            self._bytes = 0
            raise
        self._bytes = size

    def release(self) -> bool:
        """Give the room back. Return whether there was any."""
        self._file.unlink(missing_ok=True)
        had, self._bytes = self._bytes > 0, 0
        return had


def remove_reserves(folder: Path) -> None:
    """Remove the reserves of dead builds; the caller has made sure that no other build runs."""
    for file in folder.glob(f"{_PREFIX}*"):
        file.unlink(missing_ok=True)


def _allocate(descriptor: int, start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, size)
        return
    for place in range(0, size, len(_ZEROS)):
        os.write(descriptor, _ZEROS[: size - place])
    os.fsync(descriptor)
