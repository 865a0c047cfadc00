"""Decoded matrices on this machine: one folder per snapshot, built once and shared by all processes.

A folder appears only when it is complete: one process builds it while the others wait, and the next process removes
what a killed one left behind. To make room, the least recently used matrices of all caches of this user are removed,
but never one that a process reads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from teacher_cache.errors import CacheError
from teacher_cache.files.disk import disk_errors_in_words
from teacher_cache.files.user_folders import user_folder
from teacher_cache.keys import sha256

LIMIT_VARIABLE = "ARMADA_MATRIX_BYTES"
DEFAULT_LIMIT = 64 << 30  # bytes
_IN_USE = "in-use"  # a file that readers lock in shared mode; its modification time is that of the last opening


@dataclass(frozen=True)
class Lease:
    """A folder, and the lock that protects it from removal as long as this object exists."""

    path: Path
    lock: IO[bytes]

    def set_aside(self) -> None:
        """Rename the folder because it is damaged, so that no later reader finds it. Existing mappings stay valid."""
        aside = self.path.with_name(f"{self.path.name}.broken")
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.path.rename(aside)


def limit_bytes() -> int:
    """Return how many bytes decoded matrices may take on this machine, from ARMADA_MATRIX_BYTES.

    Raises CacheError if its value is no number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        return int(float(text)) if text else DEFAULT_LIMIT
    except ValueError:
        raise CacheError(f"{LIMIT_VARIABLE}: expected a number of bytes, found {text!r}") from None


def acquire(home: Path, name: str, size: int, build: Callable[[Path], None], limit: int | None = None) -> Lease:
    """Return a lease on the folder `name` in `home`, and build the folder first if it does not exist.

    Args:
        home: The folder of a cache's matrices.
        name: The name of the folder, from the snapshot's digest.
        size: The bytes that the folder will take.
        build: Writes the files into the empty folder that it is called with.
        limit: The bytes that all matrices of this user may take, `limit_bytes()` by default. Matrices in use are not
            removed even if the sum is larger.

    Raises CacheError if `size` is more than the limit or the disk is full.
    """
    folder = home / name
    while True:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return Lease(folder, _share(folder))
        with disk_errors_in_words(str(home)):
            home.mkdir(parents=True, exist_ok=True)
        with FileLock(home / f".lock-{name}"), disk_errors_in_words(str(home)):
            if not (folder / _IN_USE).exists():
                shutil.rmtree(folder, ignore_errors=True)
                make_room(size, limit_bytes() if limit is None else limit)
                _sweep(home)
                _build(home / f".draft-{name}", folder, build)


def _build(draft: Path, folder: Path, build: Callable[[Path], None]) -> None:
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        build(draft)
        (draft / _IN_USE).touch()
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _register(folder)


def folders(home: Path) -> list[Path]:
    """Return the complete folders of a cache's matrices, sorted by name."""
    return sorted(f for f in home.glob("[!.]*") if f.is_dir() and f.suffix != ".broken")


def make_room(size: int, limit: int) -> None:
    """Remove matrices that are not in use, the least recently used first, until `size` more bytes are within the limit.

    Raises CacheError if `size` alone is more than the limit.
    """
    if size > limit:
        raise CacheError(
            f"the decoded features take {size:,} bytes, more than the {limit:,} allowed for matrices on this machine; "
            f"raise {LIMIT_VARIABLE}, or read them in windows with max_local_bytes (--max-local-bytes)"
        )
    known = sorted(_registered(), key=_last_use)
    total = sum(_bytes(folder) for folder in known)
    for folder in known:
        if total + size <= limit:
            return
        freed = _bytes(folder)
        if remove_matrix(folder):
            total -= freed


def _share(folder: Path) -> IO[bytes]:
    """Take a shared lock on a folder. Raises FileNotFoundError if the folder does not exist or was just removed."""
    stream = (folder / _IN_USE).open("rb")
    try:
        fcntl.flock(stream, fcntl.LOCK_SH)  # waits for a moment if the folder is being removed
        if not os.path.samestat(os.fstat(stream.fileno()), os.stat(folder / _IN_USE)):
            raise FileNotFoundError(folder)
        with contextlib.suppress(PermissionError):  # the folder of another user, which may be read
            os.utime(folder / _IN_USE)
    except BaseException:
        stream.close()
        raise
    return stream


def is_matrix_in_use(folder: Path) -> bool:
    """Return whether a process reads the matrix in a folder."""
    try:
        with (folder / _IN_USE).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False  # it was removed, or is not complete
    except OSError:
        return True
    return False


def remove_matrix(folder: Path) -> bool:
    """Remove the folder of a matrix unless a process reads it; return whether it was removed."""
    try:
        with (folder / _IN_USE).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside = folder.with_name(f"{folder.name}.broken")
            folder.rename(aside)
    except OSError:
        return False
    shutil.rmtree(aside, ignore_errors=True)
    return True


def _sweep(home: Path) -> None:
    """Remove folders that were set aside, and the drafts of killed builds. The caller must hold its folder's lock."""
    for folder in home.glob("*.broken"):
        shutil.rmtree(folder, ignore_errors=True)
    for draft in home.glob(".draft-*"):
        with contextlib.suppress(Timeout), FileLock(home / draft.name.replace(".draft-", ".lock-", 1), timeout=0):
            shutil.rmtree(draft, ignore_errors=True)


def _registry() -> Path:
    return user_folder() / "matrices"


def _register(folder: Path) -> None:
    """Link to a matrix from the user's cache folder, so that the limit counts the matrices of all caches."""
    link = _registry() / sha256(str(folder.resolve()).encode())[:32]
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(folder.resolve())


def _registered() -> Iterator[Path]:
    for link in _registry().glob("*"):
        if (link / _IN_USE).exists():
            yield Path(os.readlink(link))
        else:
            link.unlink(missing_ok=True)


def _last_use(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return (folder / _IN_USE).stat().st_mtime
    return 0.0


def _bytes(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in folder.iterdir())
    return 0
