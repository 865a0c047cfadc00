"""The folder or fsspec URL that a cache lives in. A file appears whole or not at all, and no path leaves the folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

import fsspec
from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.storage.crash_points import crash_point
from teacher_cache.storage.disk import full_disk_in_words

_DRAFT = ".draft-"


class Store:
    """Immutable files under a root. On a local disk a write is temporary name, fsync, rename, fsync of the folder; on
    an object store one whole PUT."""

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
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise CacheError(f"{self}: the path {name!r} leaves the cache; refused")
        return f"{self._root.rstrip('/')}/{name}"

    def local_path(self, name: str) -> Path | None:
        """Where a file of a local folder is; None where files have to be fetched."""
        return Path(self._path(name)) if self.is_local else None

    def exists(self, name: str) -> bool:
        """Whether a file is there."""
        return bool(self._fs.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        """The names of a folder's finished files, sorted, without the folder; empty where there is none."""
        try:
            entries = self._fs.ls(self._path(folder), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(name for name in (PurePosixPath(e).name for e in entries) if not name.startswith("."))

    def read(self, name: str) -> bytes:
        """A file's bytes. Raises NoFileError where it isn't there."""
        with self.open(name) as stream:
            data: bytes = stream.read()
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A seekable stream of a file's bytes. Raises NoFileError where it isn't there."""
        try:
            stream: Any = self._fs.open(self._path(name), "rb")
        except FileNotFoundError:
            raise NoFileError(f"{self}/{name}: no such file; run the build again to fill the gap") from None
        with stream:
            yield stream

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """Some bytes of a file, by one request where it is remote. Raises NoFileError where it isn't there."""
        try:
            data: bytes = self._fs.cat_file(self._path(name), start=offset, end=offset + size)
        except FileNotFoundError:
            raise NoFileError(f"{self}/{name}: no such file; run the build again to fill the gap") from None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a small file whole; the same name again replaces it whole."""
        with self.draft() as draft:
            draft.write_bytes(data)
            self.publish(draft, name)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A local path to write a new file at, on the cache's own disk where that is local; gone afterwards. A lock
        marks it as in use."""
        with full_disk_in_words(str(self)):
            parent = Path(self._root) if self.is_local else None
            if parent:
                parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=parent))
            try:
                with FileLock(folder / "lock"):
                    yield folder / "file"
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, older_than_s: float = 60.0) -> int:
        """Remove the drafts of processes that died. Returns how many there were."""
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
                continue  # in use, or gone
        return swept

    def walk(self, folder: str) -> list[str]:
        """The paths of all finished files below a folder, sorted, relative to the root."""
        root = self._path(folder)
        base = self._root.rstrip("/") + "/"
        paths = (path[path.index(base) + len(base) :] for path in self._fs.find(root))
        return sorted(path for path in paths if _DRAFT not in path)

    def copy_from(self, other: Store, name: str) -> None:
        """Copy a file of another store, under the same name."""
        with self.draft() as draft:
            other.copy_to(name, draft)
            self.publish(draft, name)

    def copy_to(self, name: str, path: Path) -> None:
        """Copy a file to a local path. Raises NoFileError where it isn't there."""
        with self.open(name) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def remove(self, name: str) -> None:
        """Remove a file; none there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def quarantine(self, name: str) -> str:
        """Move a broken file aside, where no reader looks; returns its new path."""
        aside = f"quarantine/{name}"
        target = self._path(aside)
        self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
        self._fs.mv(self._path(name), target)
        return aside

    def publish(self, draft: Path, name: str) -> None:
        """Make a draft appear under its name, durably."""
        target = self._path(name)
        if not self.is_local:
            self._fs.put_file(str(draft), target)
            return
        crash_point("store.draft")
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        crash_point("store.rename")
        folder = Path(target).parent
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(draft, target)
        crash_point("store.renamed")
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def machine_folder(self) -> Path:
        """What belongs to this cache on this machine alone (spool, decoded features, aligners): inside a local cache
        that can be written to, else in `user_folder`."""
        if self.is_local:
            folder = Path(self._root) / "local"
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                    raise
            if os.access(folder, os.W_OK):
                return folder
        folder = self.user_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def user_folder(self) -> Path:
        """What belongs to this cache in the user's cache folder, by the digest of its URL; it may not exist."""
        return user_folder() / hashlib.sha256(str(self).encode()).hexdigest()[:32]


def user_folder() -> Path:
    """What belongs to this user on this machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "armada"


def redact(url: str) -> str:
    """A URL without the user, password or query that may be secrets."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
