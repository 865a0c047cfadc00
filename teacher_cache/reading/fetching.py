"""Fetching: map the bytes of a shard into memory, after comparing them with the size and digest of the commit.

A remote shard is copied to this machine first. A copy appears only when it is complete, and stays until it is no longer
needed, so that a killed or failed download of many shards continues where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path

from teacher_cache.errors import CacheError, missing_file, repair_hint
from teacher_cache.files.atomic_files import atomic_file, sweep_drafts
from teacher_cache.files.disk import disk_errors_in_words
from teacher_cache.format.commits import Shard
from teacher_cache.storage.cache import Cache

TRIES = 3


def shard_bytes(cache: Cache, shard: Shard, fetched: Path | None) -> bytes | mmap.mmap:
    """Return the bytes of a shard. A remote shard is copied into the folder `fetched`, or read into memory without it.

    Raises CacheError if the bytes are not the commit's, NoFileError if the file is missing.
    """
    where = f"{cache.store}/{shard.path}"
    local = cache.store.local_path(shard.path)
    if local:
        return _mapped(local, shard, where)
    if fetched is None:
        return _checked(cache.store.read(shard.path), shard, where)
    copy = fetched / shard.sha256
    for _ in range(TRIES - 1):
        with contextlib.suppress(CacheError, OSError):
            return _fetched(cache, shard, copy)
    return _fetched(cache, shard, copy)


def clear(fetched: Path, shards: Iterable[Shard], older_than_s: float = 86_400.0) -> None:
    """Remove the copies of the given shards, and all files that have not changed for `older_than_s` seconds."""
    names = {shard.sha256 for shard in shards}
    for copy in fetched.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if copy.name in names or time.time() - copy.stat().st_mtime > older_than_s:
                copy.unlink()


def _fetched(cache: Cache, shard: Shard, copy: Path) -> bytes | mmap.mmap:
    try:
        if not copy.exists():
            _copy(cache, shard, copy)
        return _mapped(copy, shard, f"{cache.store}/{shard.path}")
    except CacheError:
        copy.unlink(missing_ok=True)
        raise


def _copy(cache: Cache, shard: Shard, copy: Path) -> None:
    sweep_drafts(copy.parent)
    with disk_errors_in_words(str(copy.parent)), atomic_file(copy, durable=False) as draft:
        cache.store.copy_to(shard.path, draft)


def _mapped(path: Path, shard: Shard, where: str) -> bytes | mmap.mmap:
    try:
        with path.open("rb") as stream:
            empty = not os.fstat(stream.fileno()).st_size  # nothing can be mapped
            data = b"" if empty else mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise missing_file(where) from None
    return _checked(data, shard, where)


def _checked(data: bytes | mmap.mmap, shard: Shard, where: str) -> bytes | mmap.mmap:
    mend = repair_hint()
    if len(data) != shard.bytes:
        raise CacheError(f"{where}: expected {shard.bytes} bytes, found {len(data)}; {mend}")
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise CacheError(f"{where}: sha256 differs from the commit's; {mend}")
    return data
