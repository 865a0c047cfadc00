"""Atomic writes: a file appears complete under its name or not at all, whenever the process is killed.

The file is written under a temporary name in the same folder and then renamed. A durable write also survives a power
failure: the file is synced before the rename, and its folder afterwards.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from teacher_cache.storage.crash_points import crash_point

DRAFT_SUFFIX = ".draft"


def atomic_write(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a complete file, or replace it by a complete one. Its folder is created if necessary."""
    with atomic_file(path, durable=durable) as draft:
        draft.write_bytes(data)


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename the file written there to `path` when the block ends.

    If the block raises an error, the temporary file is removed and `path` stays as it was. A process that is killed
    leaves a file that begins with a dot and ends in DRAFT_SUFFIX.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}{DRAFT_SUFFIX}")
    try:
        yield draft
        publish_file(draft, path, durable=durable)
    finally:
        draft.unlink(missing_ok=True)


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


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
