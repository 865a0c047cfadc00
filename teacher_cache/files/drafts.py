"""Drafts: files that are being written, on this machine; they disappear with the process that writes them."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from teacher_cache.files.disk import disk_errors_in_words

_PREFIX = ".draft-"


@contextmanager
def draft(root: str | None, where: str) -> Iterator[Path]:
    """Yield a local path at which to write a new file; it is removed afterwards.

    It is in the folder `root`, or in the folder for temporary files. A lock protects it from `sweep`. Raise CacheError,
    which names `where`, if the disk is full.
    """
    with disk_errors_in_words(where):
        if root is not None:
            folder = Path(root) / f"{_PREFIX}{secrets.token_hex(8)}"
            folder.mkdir(parents=True)  # unlike mkdtemp, with the rights of the umask: the group may sweep it
        else:
            folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        try:
            with FileLock(folder / "lock"):
                yield folder / "file"
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def keep(path: Path, target: Path) -> Path:
    """Move a finished draft to a path among the files of another one; return that path."""
    shutil.move(path, target)
    return target


def sweep(root: Path, older_than_s: float) -> int:
    """Remove the drafts of dead processes in a folder. Return how many there were."""
    swept = 0
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime < older_than_s:
                continue
            with FileLock(folder / "lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                swept += 1
        except (OSError, Timeout):
            continue  # it is in use, or it was removed meanwhile
    return swept
