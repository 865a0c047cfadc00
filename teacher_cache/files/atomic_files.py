"""Atomic writes: a file appears complete under its name or not at all, whenever the process is killed.

The file is written under a temporary name in the same folder and then renamed. A durable write also survives a power
failure: the file is synced before the rename, and its folder afterwards.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from teacher_cache.files.crash_points import crash_point

DRAFT_SUFFIX = ".draft"


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a complete file, or replace it by a complete one. Its folder is created if necessary."""
    with atomic_file(path, durable=durable) as draft:
        draft.write_bytes(data)


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename the file written there to `path` when the block ends.

    If the block raises an error, the temporary file is removed and `path` stays as it was. A process that is killed
    leaves the temporary file behind, for `sweep_drafts`. Several processes may write the same path at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}{DRAFT_SUFFIX}")
    try:
        yield draft
        publish_file(draft, path, durable=durable)
    finally:
        draft.unlink(missing_ok=True)


def sweep_drafts(folder: Path, older_than_s: float = 3600.0) -> int:
    """Remove the temporary files that killed processes left in a folder. Return how many there were.

    A temporary file counts as left behind if nothing was written to it for `older_than_s` seconds.
    """
    swept = 0
    for draft in folder.glob(f".*{DRAFT_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process removed or renamed it
            if time.time() - draft.stat().st_mtime > older_than_s:
                draft.unlink()
                swept += 1
    return swept


def publish_file(draft: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a finished draft to `path`, on the same file system. The folder of `path` is created if necessary."""
    crash_point("store.draft")
    if durable:
        _sync(draft)
    crash_point("store.rename")
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(draft, path)
    crash_point("store.renamed")
    if durable:
        _sync(path.parent)


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until files, which may be gone, and their folders are on the disk."""
    files = list(paths)
    for path in [*files, *{path.parent for path in files}]:
        with suppress(FileNotFoundError):
            _sync(path)


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
