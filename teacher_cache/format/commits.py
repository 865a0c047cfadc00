"""Shards and commits as facts: which files count together, and which tar an index describes."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass(frozen=True)
class Shard:
    """A file that a commit added: its path in the cache, size, rows and digest."""

    path: str
    bytes: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Commit:
    """Shards that count together, and the paths of those they stand for; `prompts` names the prompts' source."""

    added: tuple[Shard, ...]
    replaced: tuple[str, ...]
    by: str
    at: str
    prompts: str = ""


def tar_of(path: str) -> str:
    """The tar that an index describes: an index stands beside it, `D.parquet` among images, `D.index.parquet` among
    features. Empty for a shard that is no index."""
    if path.endswith(".index.parquet"):
        return path.removesuffix(".index.parquet") + ".tar"
    return path.removesuffix(".parquet") + ".tar" if path.startswith("images/") and path.endswith(".parquet") else ""


def index_path(tar: str) -> str:
    """Where the index of a tar stands: the other way round."""
    return tar.removesuffix(".tar") + (".parquet" if tar.startswith("images/") else ".index.parquet")


# --- merged: teacher_cache.format.commits
# Who commits, when, and where the prompts came from.
class Provenance:
    """What a commit says beside its shards; the clock is asked at each."""

    def __init__(self, clock: Callable[[], float], prompts: str = "") -> None:
        self._clock = clock
        self._prompts = prompts
        self._by = f"{getpass.getuser()}@{socket.gethostname()}"

    def now(self) -> dict[str, str]:
        """The keyword arguments of `Cache.commit`."""
        at = datetime.fromtimestamp(self._clock(), timezone.utc).isoformat(timespec="seconds")
        return {"by": self._by, "at": at, "prompts": self._prompts}
