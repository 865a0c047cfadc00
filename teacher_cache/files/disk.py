"""Errors of the disk in words: it is full, its rights forbid it, or a path is not what it should be.

Commits and the spool stay complete; the same command continues as soon as the cause is removed.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from teacher_cache.errors import CacheError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RIGHTS = (errno.EACCES, errno.EPERM, errno.EROFS)
_PATH = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)


class DiskFullError(CacheError):
    """There is no room left on a disk. Nothing that was drawn or committed is lost."""


@contextmanager
def full_disk_in_words(where: str) -> Iterator[None]:
    """Turn the error of a full disk into a DiskFullError that names `where`; other errors are not changed."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _full(where) from error
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise _full(where) from error


@contextmanager
def disk_errors_in_words(where: str) -> Iterator[None]:
    """Turn the errors of a full disk, of missing rights and of a path that is no folder or no file into a CacheError.

    It names the path that the system named, or `where`. A missing file (FileNotFoundError) and the errors of hardware
    are not changed.
    """
    try:
        with full_disk_in_words(where):
            yield
    except OSError as error:
        path = error.filename if isinstance(error.filename, str) else where
        reason = error.strerror or str(error)
        if isinstance(error, PermissionError) or error.errno in _RIGHTS:
            raise CacheError(f"{path}: {reason}; this user needs the right to read and write {where}") from error
        if os.path.islink(path) and not os.path.exists(path):
            reason = f"a symbolic link to {os.readlink(path)}, which is not there"
        if error.errno in _PATH:
            raise CacheError(f"{path}: {reason}; expected that {where} is a folder, or can be made one") from error
        raise


def _full(where: str) -> DiskFullError:
    return DiskFullError(
        f"{where}: no room left on the disk; nothing that was drawn or committed is lost: free some space and run the "
        "same command again"
    )
