"""The store of a cache: a local folder or an fsspec URL.

A file appears complete or not at all, and no path leads out of the store.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from teacher_cache.errors import ArmadaError, CacheError, missing_file
from teacher_cache.files import local_files
from teacher_cache.files.atomic_files import publish_file
from teacher_cache.files.crash_points import crash_point
from teacher_cache.files.disk import disk_errors_in_words
from teacher_cache.files.urls import identity, redact

_DRAFT = ".draft-"


class Store:
    """Immutable files under a root. On a local disk each write is atomic and durable; on an object store it is one PUT.

    Raise CacheError if the URL can't be opened. Missing rights, a path that is no folder, and a server that refuses are
    CacheErrors too.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise CacheError(f"{redact(url)}: no usable folder or URL: {error}") from None
        self.is_local = isinstance(self._fs, LocalFileSystem)

    def __str__(self) -> str:
        return self._root if self.is_local else redact(self.url)

    def _path(self, name: str) -> str:
        """Return the full path of a name. Raise CacheError if it is outside the store, also through a symbolic link."""
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise CacheError(f"{self}: the path {name!r} leaves the cache; refused")
        full = f"{self._root.rstrip('/')}/{name}"
        if self.is_local and not local_files.contains(self._real_root, full):
            raise CacheError(f"{self}: the path {name!r} leaves the cache through a symbolic link; refused")
        return full

    @cached_property
    def _real_root(self) -> str:
        return str(os.path.realpath(self._root))

    def local_path(self, name: str) -> Path | None:
        """Return the path of a file in a local store, or None if the store is remote."""
        return Path(self._path(name)) if self.is_local else None

    @contextmanager
    def _words(self) -> Iterator[None]:
        """Turn the errors of the file system into CacheErrors, except that a file does not exist."""
        try:
            with disk_errors_in_words(str(self)):
                yield
        except (ArmadaError, FileNotFoundError):
            raise
        except Exception as error:
            if self.is_local:
                raise
            raise CacheError(f"{self}: the store answers {type(error).__name__}: {error}") from error

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        with self._words():
            return bool(self._fs.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of the finished files and folders in a folder; none if it does not exist."""
        try:
            with self._words():
                entries = self._fs.ls(self._path(folder), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(name for name in (PurePosixPath(e).name for e in entries) if not name.startswith("."))

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the name and the size in bytes of each finished file in a folder, from one listing.

        The size is -1 if the store does not state it. Files behind a symbolic link that leaves the store, and folders,
        are left out. A folder that does not exist, or leaves the store, has no files.
        """
        try:
            path = self._path(folder)
        except CacheError:
            return {}
        if self.is_local:
            with self._words():
                return dict(sorted(local_files.sizes(self._real_root, path)))
        try:
            with self._words():
                entries = self._fs.ls(path, detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        files = ((PurePosixPath(e["name"]).name, e.get("size")) for e in entries if e.get("type") != "directory")
        return {name: -1 if size is None else int(size) for name, size in sorted(files) if not name.startswith(".")}

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raise NoFileError if it does not exist."""
        with self.open(name) as stream:
            data: bytes = stream.read()
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file as a seekable stream of bytes. Raise NoFileError if it does not exist."""
        try:
            with self._words():
                stream: Any = self._fs.open(self._path(name), "rb")
        except FileNotFoundError:
            raise missing_file(f"{self}/{name}") from None
        with stream:
            yield stream

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset`, in one request. Raise NoFileError if it does not exist."""
        try:
            with self._words():
                data: bytes = self._fs.cat_file(self._path(name), start=offset, end=offset + size)
        except FileNotFoundError:
            raise missing_file(f"{self}/{name}") from None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small file atomically; an existing one is replaced."""
        with self.draft() as draft:
            draft.write_bytes(data)
            self.publish(draft, name)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """Yield a local path at which to write a new file; it is removed afterwards.

        It is on the disk of a local cache, so that `publish` can rename it. A lock protects it from `sweep`. Raise
        CacheError if the disk is full.
        """
        with disk_errors_in_words(str(self)):
            if self.is_local:
                folder = Path(self._root) / f"{_DRAFT}{secrets.token_hex(8)}"
                folder.mkdir(parents=True)  # unlike mkdtemp, with the rights of the umask: the group may sweep it
            else:
                folder = Path(tempfile.mkdtemp(prefix=_DRAFT))
            try:
                with FileLock(folder / "lock"):
                    yield folder / "file"
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, older_than_s: float = 60.0) -> int:
        """Remove the drafts of dead processes. Return how many there were."""
        if not self.is_local:
            return 0
        swept = 0
        for folder in Path(self._root).glob(f"{_DRAFT}*"):
            try:
                if time.time() - folder.stat().st_mtime < older_than_s:
                    continue
                with FileLock(folder / "lock", timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
                    swept += 1
            except (OSError, Timeout):
                continue  # it is in use, or it was removed meanwhile
        return swept

    def walk(self, folder: str) -> list[str]:
        """Return the sorted paths of all finished files below a folder, relative to the root."""
        root = self._path(folder)
        if self.is_local:
            return sorted(local_files.walk(self._real_root, root))
        base = self._root.rstrip("/") + "/"
        paths = (path[path.index(base) + len(base) :] for path in self._fs.find(root))
        return sorted(path for path in paths if not path.startswith(".") and "/." not in path)

    def links_out(self) -> list[str]:
        """Return the sorted paths of the symbolic links in a local store that lead out of it."""
        return sorted(local_files.links_out(self._real_root)) if self.is_local else []

    def copy_from(self, other: Store, name: str) -> None:
        """Copy a file from another store, under the same name. Raise NoFileError if it does not exist there."""
        with self.draft() as draft:
            other.copy_to(name, draft)
            self.publish(draft, name)

    def copy_to(self, name: str, path: Path) -> None:
        """Copy a file to a local path. Raise NoFileError if it does not exist."""
        with self.open(name) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def modified(self, name: str) -> float:
        """Return when a file was written, in seconds since the epoch; 0 if the store does not tell."""
        try:
            return float(self._fs.modified(self._path(name)).timestamp())
        except (NotImplementedError, FileNotFoundError):
            return 0.0

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with contextlib.suppress(FileNotFoundError), self._words():
            self._fs.rm_file(self._path(name))

    def quarantine(self, name: str) -> str:
        """Move a damaged file into the folder `quarantine`, which nothing reads. Return its new path."""
        aside, number = f"quarantine/{name}", 1
        while self.exists(aside):
            number += 1
            aside = f"quarantine/{name}.{number}"
        target = self._path(aside)
        crash_point("store.quarantine")
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._fs.mv(self._path(name), target)
        return aside

    def publish(self, draft: Path, name: str) -> None:
        """Make a draft appear under its name, atomically and durably."""
        target = self._path(name)
        with self._words():
            if self.is_local:
                publish_file(draft, Path(target))
            else:
                self._fs.put_file(str(draft), target)

    @cached_property
    def identity(self) -> str:
        """The one URL of this store, however it is written; see `urls.identity`."""
        return self._real_root if self.is_local else identity(self._fs, self._root)
