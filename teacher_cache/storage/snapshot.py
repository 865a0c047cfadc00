"""Snapshots: the shards that decide the features of a teacher and an encoder, at one moment.

A snapshot's digest depends on the digests of its shards, so that computing it needs the commits and one listing per
folder, and reads no shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from teacher_cache.format.commits import Shard, tar_of
from teacher_cache.format.sources import Source
from teacher_cache.keys import canonical_json, sha256
from teacher_cache.storage.cache import Cache

LAYOUT = 2  # version of the decoded files


@dataclass(frozen=True)
class Snapshot:
    """The live shards that exist: those with features (Parquet, or the index of a tar), and the indexes of pictures.

    `tars` are the tars of the indexes, by the path of the index.
    """

    teacher: Source
    encoder: Source
    features: tuple[Shard, ...]
    images: tuple[Shard, ...]
    tars: Mapping[str, Shard]

    @property
    def rows(self) -> int:
        """The number of feature rows, including those that are not canonical."""
        return sum(shard.rows for shard in self.features)

    @property
    def dimension(self) -> int:
        """The number of dimensions of a feature."""
        return int(self.encoder.spec["dimension"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The number type of the stored features."""
        dtype: np.dtype[Any] = np.dtype(self.encoder.spec["dtype"])
        return dtype

    @cached_property
    def digest(self) -> str:
        """The snapshot's identity: 32 hexadecimal digits."""
        shards = [[shard.sha256 for shard in group] for group in (self.features, self.images)]
        return sha256(canonical_json([LAYOUT, self.teacher.digest, self.encoder.digest, *shards]))[:32]


def take_snapshot(cache: Cache, teacher: Source, encoder: Source, *, tries: int = 3) -> Snapshot:
    """Return the snapshot of now. Missing shards are left out.

    If one is missing and the commits have changed meanwhile (another process compacted the cache), all shards are
    listed again, at most `tries` times in all.
    """
    pictures, features = f"images/{teacher.name}/", f"features/{teacher.name}/{encoder.name}/"
    others = f"features/{teacher.name}/"  # tars of samples contain pictures too
    while True:
        live = [shard for shard in cache.shards() if shard.path.startswith((pictures, others))]
        found = existing(cache, live)
        tries -= 1
        if len(found) == len(live) or not tries or set(cache.shards()) >= set(live):
            break
    tables = [shard for path, shard in found.items() if path.endswith(".parquet")]
    tables = [shard for shard in tables if not tar_of(shard.path) or tar_of(shard.path) in found]
    indexes = [shard for shard in tables if tar_of(shard.path)]
    return Snapshot(
        teacher,
        encoder,
        tuple(shard for shard in tables if shard.path.startswith(features)),
        tuple(indexes),
        {index.path: found[tar_of(index.path)] for index in indexes},
    )


def existing(cache: Cache, shards: Sequence[Shard]) -> dict[str, Shard]:
    """Return the shards whose files exist, by path, with one listing per folder instead of one look-up per file."""
    folders = {shard.path.rpartition("/")[0] for shard in shards}
    names = {f"{folder}/{name}" for folder in folders for name in cache.store.names(folder)}
    return {shard.path: shard for shard in shards if shard.path in names}
