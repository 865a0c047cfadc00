"""Errors of a full disk. Commits and the spool stay complete; the same command continues as soon as there is space."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from teacher_cache.errors import CacheError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def full_disk_in_words(where: str) -> Iterator[None]:
    """Turn the error of a full disk into a CacheError that names `where`; other errors are not changed."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise _error(where) from error
    except sqlite3.OperationalError as error:
        if "full" not in str(error):
            raise
        raise _error(where) from error


def _error(where: str) -> CacheError:
    return CacheError(
        f"{where}: no room left on the disk; nothing that was drawn or committed is lost: free some space and run the "
        "same command again"
    )
