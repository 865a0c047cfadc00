"""Commits: which shards count together, who added them and when, and which tar an index describes."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass(frozen=True)
class Shard:
    """A file that a commit added: its path in the cache, its size in bytes, its number of rows and its SHA-256."""

    path: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Commit:
    """Shards that count together.

    `replaced` are the paths of the shards that they replace. `by` is USER@HOST, `at` an ISO 8601 time in UTC, and
    `prompts` names where the prompts came from.
    """

    added: tuple[Shard, ...]
    replaced: tuple[str, ...]
    by: str
    at: str
    prompts: str = ""


class Provenance:
    """Who commits, when, and where the prompts came from. `clock` returns seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], prompts: str = "") -> None:
        self._clock = clock
        self._prompts = prompts
        self._by = f"{getpass.getuser()}@{socket.gethostname()}"

    def now(self) -> dict[str, str]:
        """Return the keyword arguments `by`, `at` and `prompts` of `Cache.commit`, at the current time."""
        at = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat(timespec="seconds")
        return {"by": self._by, "at": at, "prompts": self._prompts}


def tar_of(path: str) -> str:
    """Return the path of the tar that an index describes, or "" if the shard is not an index.

    An index is in the folder of its tar: `D.parquet` among images, `D.index.parquet` among features.
    """
    if path.endswith(".index.parquet"):
        return path.removesuffix(".index.parquet") + ".tar"
    return path.removesuffix(".parquet") + ".tar" if path.startswith("images/") and path.endswith(".parquet") else ""


def index_path(tar: str) -> str:
    """Return the path of the index that describes a tar: the inverse of `tar_of`."""
    return tar.removesuffix(".tar") + (".parquet" if tar.startswith("images/") else ".index.parquet")
