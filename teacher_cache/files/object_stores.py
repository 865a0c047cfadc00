"""What object stores need besides fsspec: listings that are never stale, and puts that are conditional and checked.

A put of S3 carries the SHA-256 of its bytes, which the store compares; a large file goes in parts, whose ETag is
compared afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from teacher_cache.errors import repair_hint
from teacher_cache.files.store_errors import WrongBytesError, is_taken, knows_no_condition, reason_of
from teacher_cache.files.urls import protocols

PART_BYTES = 16 << 20  # files of at least twice this size are sent in parts
CONNECTIONS = 64  # at once to an object store
_CACHING = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")  # they keep listings unless they are told not to
_NAMED_BY_CONTENT = re.compile(r"[0-9a-f]{32}([0-9a-f]{32})?\.(tar|parquet|json)")
_UNCONDITIONAL: set[int] = set()  # the file systems (id) that refused a conditional put as such


def open_file_system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, which keeps no listings, and the path of the URL in it.

    Raise ImportError if its package is not installed, ValueError if nobody knows the protocol.
    """
    protocol = url.partition("://")[0].lower()
    options: dict[str, Any] = {"use_listings_cache": False} if protocol in _CACHING else {}
    if protocol in ("s3", "s3a"):
        chosen = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"max_pool_connections": CONNECTIONS, **chosen}
    file_system, root = fsspec.core.url_to_fs(url, **options)
    return file_system, str(root)


def is_s3(file_system: Any) -> bool:
    """Return whether a file system is that of s3fs."""
    return "s3" in protocols(file_system) and hasattr(file_system, "call_s3")


def read_all(file_system: Any, path: str) -> bytes:
    """Return the bytes of a file, in one request."""
    options = {"max_concurrency": 1} if is_s3(file_system) else {}  # else s3fs asks for the size first
    data: bytes = file_system.cat_file(path, **options)
    return data


def get(file_system: Any, path: str, target: Path, size: int = -1) -> None:
    """Copy a file to a local path; one whose `size` in bytes is known to be small takes one request."""
    if is_s3(file_system) and 0 <= size <= PART_BYTES:
        target.write_bytes(read_all(file_system, path))  # half the processor time of get_file
    else:
        file_system.get_file(path, str(target))


def remote_sizes(file_system: Any, folder: str) -> dict[str, int]:
    """Return the name and the size in bytes of each finished file in a folder, as it is now; -1 for an unknown size."""
    try:
        entries = file_system.ls(folder, detail=True, refresh=True)
    except FileNotFoundError as error:
        if reason_of(error):
            raise
        return {}
    files = ((PurePosixPath(e["name"]).name, e.get("size")) for e in entries if e.get("type") != "directory")
    return {name: -1 if size is None else int(size) for name, size in sorted(files) if not name.startswith(".")}


def remote_walk(file_system: Any, root: str, folder: str) -> list[str]:
    """Return the sorted paths, relative to `root`, of all finished files below a folder as they are now."""
    base = root.rstrip("/") + "/"
    file_system.invalidate_cache()
    paths = (path[path.index(base) + len(base) :] for path in file_system.find(folder))
    return sorted(path for path in paths if not path.startswith(".") and "/." not in path)


def modified(file_system: Any, path: str) -> float:
    """Return when a file was written, in seconds since the epoch; 0 if the store does not tell or has no such file."""
    try:
        return float(file_system.modified(path).timestamp())
    except (NotImplementedError, FileNotFoundError):
        return 0.0


def put(file_system: Any, source: Path, target: str, sha256: str = "") -> None:
    """Send a local file, in one request or in parts, after comparing it with `sha256` if that is given.

    A file whose name states its content, and that is there with its size, is not sent again, also if another process
    sends it at the same time. Raise WrongBytesError if the bytes differ, here or in the store afterwards.
    """
    if not is_s3(file_system):
        _compare(source, sha256, _digest(source) if sha256 else "")
        file_system.put_file(str(source), target)
        return
    conditional = is_named_by_content(target) and id(file_system) not in _UNCONDITIONAL
    try:
        _put_s3(file_system, source, target, "create" if conditional else "overwrite", sha256)
    except Exception as error:
        if not conditional:
            raise
        if is_taken(error):
            if file_system.info(target)["size"] == source.stat().st_size:
                return
        elif knows_no_condition(error):
            _UNCONDITIONAL.add(id(file_system))
        else:
            raise
        _put_s3(file_system, source, target, "overwrite", sha256)


def is_named_by_content(name: str) -> bool:
    """Return whether the name of a file states its content, so that it is never written with another one."""
    return bool(_NAMED_BY_CONTENT.fullmatch(name.rpartition("/")[2]))


def _put_s3(file_system: Any, source: Path, target: str, mode: str, sha256: str) -> None:
    size = source.stat().st_size
    if size < 2 * PART_BYTES:
        data = source.read_bytes()
        digest = hashlib.sha256(data)
        _compare(source, sha256, digest.hexdigest())
        checksum = base64.b64encode(digest.digest()).decode()
        file_system.pipe_file(target, data, mode=mode, chunksize=2 * PART_BYTES, ChecksumSHA256=checksum)
        return
    _compare(source, sha256, _digest(source) if sha256 else "")
    file_system.put_file(str(source), target, chunksize=PART_BYTES, mode=mode)
    found = str(file_system.info(target).get("ETag", "")).strip('"')
    if found != _etag(source) and not _reads_back(file_system, source, target):
        raise WrongBytesError(f"{target}: the store has other bytes than were sent; run the same command again")


def _compare(source: Path, expected: str, found: str) -> None:
    if expected and found != expected:
        raise WrongBytesError(f"{source}: sha256 differs from the commit's; {repair_hint(build_again=False)}")


def _digest(source: Path) -> str:
    with source.open("rb") as stream:
        digest = hashlib.sha256()
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def _etag(source: Path) -> str:
    """Return the ETag that S3 gives to a file sent in parts, unless it encrypts it with a key of its user."""
    digests = b""
    with source.open("rb") as stream:
        while part := stream.read(PART_BYTES):
            digests += hashlib.md5(part, usedforsecurity=False).digest()
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(digests) // 16}"


def _reads_back(file_system: Any, source: Path, target: str) -> bool:
    with file_system.open(target, "rb") as there, source.open("rb") as here:
        while True:
            sent, found = here.read(PART_BYTES), there.read(PART_BYTES)
            if sent != found or not sent:
                return bool(sent == found)
