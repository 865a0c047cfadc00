"""Shards and commits as facts: which files count together, and which tar an index describes."""

from __future__ import annotations

from dataclasses import dataclass


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
