"""The store of a cache: a local folder or an fsspec URL.

A file appears complete or not at all, and no path leads out of the store.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any

from fsspec.implementations.local import LocalFileSystem

from teacher_cache.errors import CacheError, missing_file
from teacher_cache.files import drafts, hub, local_files
from teacher_cache.files.atomic_files import publish_file
from teacher_cache.files.crash_points import crash_point
from teacher_cache.files.disk import disk_errors_in_words
from teacher_cache.files.hub_calls import HubCalls
from teacher_cache.files.object_stores import (
    get,
    is_s3,
    modified,
    open_file_system,
    put,
    read_all,
    remote_sizes,
    remote_walk,
)
from teacher_cache.files.store_errors import store_errors_in_words, unavailable_in_words
from teacher_cache.files.urls import check_url, identity, redact, without_secrets

_BLOCK_BYTES = 1 << 20  # read at once from a remote file that is read in parts


class Store:
    """Immutable files under a root. On a local disk each write is atomic and durable; on an object store it is one PUT.

    Raise CacheError if the URL can't be opened. Missing rights, a path that is no folder, and a server that refuses are
    CacheErrors too. Nothing is taken from an earlier listing: another process may have added files. A dataset
    repository of the Hub is read at the commit that its revision means when the store is opened.
    """

    def __init__(self, url: str) -> None:
        check_url(url)
        self.url = url
        try:
            self._fs, self._root = open_file_system(url)
        except (ImportError, ValueError) as error:
            raise CacheError(f"{redact(url)}: no usable folder or URL: {without_secrets(str(error))}") from None
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self.hub = hub.hub_place(self._fs, self._root)
        if self.hub:
            self._calls = HubCalls(str(self), self.hub, self.publish_all)
            with self._words():
                self._root = self.hub.pinned().root

    @property
    def checks_puts(self) -> bool:
        """Whether the store itself compares what it gets with a digest, so that it need not be read again."""
        return self.is_local or bool(self.hub) or is_s3(self._fs)

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

    def _words(self) -> AbstractContextManager[None]:
        """Turn the errors of the file system into CacheErrors, except that a file does not exist."""
        return disk_errors_in_words(str(self)) if self.is_local else store_errors_in_words(str(self))

    def exists(self, name: str) -> bool:
        """Return whether a file exists."""
        path = self._path(name)
        with self._words():
            self._fs.invalidate_cache(path.rpartition("/")[0])
            return bool(self._fs.exists(path))

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
        with self._words():
            return remote_sizes(self._fs, path)

    @contextmanager
    def _file(self, name: str) -> Iterator[str]:
        """Yield the full path of a file. The errors of the file system become CacheErrors, NoFileError among them."""
        path = self._path(name)
        try:
            with self._words():
                yield path
        except FileNotFoundError:
            raise missing_file(f"{self}/{name}") from None

    def read(self, name: str) -> bytes:
        """Return a file's bytes. Raise NoFileError if it does not exist."""
        with self._file(name) as path:
            return Path(path).read_bytes() if self.is_local else read_all(self._fs, path)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file as a seekable stream of bytes. Raise NoFileError if it does not exist."""
        with self._file(name) as path:
            options = {} if self.is_local else {"block_size": _BLOCK_BYTES}
            stream: Any = self._fs.open(path, "rb", **options)
        with stream, contextlib.nullcontext() if self.is_local else unavailable_in_words(str(self)):
            yield stream

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of a file from `offset`, in one request. Raise NoFileError if it does not exist."""
        with self._file(name) as path:
            data: bytes = self._fs.cat_file(path, start=offset, end=offset + size)
            return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small file atomically; an existing one is replaced."""
        with self.draft() as draft:
            draft.write_bytes(data)
            self.publish(draft, name)

    def draft(self) -> AbstractContextManager[Path]:
        """Return a context with a local path at which to write a new file; it is removed afterwards.

        It is on the disk of a local cache, so that `publish` can rename it. A lock protects it from `sweep`. Raise
        CacheError if the disk is full.
        """
        return drafts.draft(self._root if self.is_local else None, str(self))

    def sweep(self, older_than_s: float = 60.0) -> int:
        """Remove the drafts of dead processes. Return how many there were."""
        return drafts.sweep(Path(self._root), older_than_s) if self.is_local else 0

    def walk(self, folder: str) -> list[str]:
        """Return the sorted paths of all finished files below a folder, relative to the root."""
        root = self._path(folder)
        if self.is_local:
            return sorted(local_files.walk(self._real_root, root))
        with self._words():
            return remote_walk(self._fs, self._root, root)

    def links_out(self) -> list[str]:
        """Return the sorted paths of the symbolic links in a local store that lead out of it."""
        return sorted(local_files.links_out(self._real_root)) if self.is_local else []

    def copy_to(self, name: str, path: Path, size: int = -1) -> None:
        """Copy a file, of `size` bytes if that is known, to a local path. Raise NoFileError if it does not exist."""
        if self.is_local:
            with self.open(name) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
            return
        with self._file(name) as source_path:
            get(self._fs, source_path, path, size)

    def modified(self, name: str) -> float:
        """Return when a file was written, in seconds since the epoch; 0 if the store does not tell."""
        with self._words():
            return modified(self._fs, self._path(name))

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
        with self._words():
            if self.hub is None:
                self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.mv(self._path(name), target)
        return aside

    def publish(self, draft: Path, name: str, sha256: str = "", *, durable: bool = True) -> None:
        """Make a draft appear under its name, atomically and durably; inside `together`, when that ends.

        Without `durable`, a power failure may take a local file until it is synced. A file that is named by its
        content is not sent again if it is there with its size. An object store compares the bytes with `sha256`, if it
        is given, before it sends them.
        """
        if self.hub:
            self._path(name)
            self._calls.publish(draft, name)
        elif self.is_local:
            with self._words():
                publish_file(draft, Path(self._path(name)), durable=durable)
        else:
            with self._file(name) as path:
                put(self._fs, draft, path, sha256)

    def publish_all(self, files: Sequence[tuple[Path, str]], message: str) -> None:
        """Send local files to the Hub in this order, in as few calls as it allows. `message` is for git commits."""
        for _, name in files:
            self._path(name)
        if self.hub:
            with self._words():
                hub.send(self.hub, files, message)

    def together(self) -> AbstractContextManager[None]:
        """Send what this thread publishes inside in one call, where the store has one for several files."""
        return self._calls.together() if self.hub else contextlib.nullcontext()

    @cached_property
    def identity(self) -> str:
        """The one URL of this store, however it is written; see `urls.identity`."""
        return self._real_root if self.is_local else identity(self._fs, self.hub.root if self.hub else self._root)
