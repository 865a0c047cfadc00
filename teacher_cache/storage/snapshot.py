"""Snapshots: the shards that decide the features of a teacher and an encoder, at one moment.

A snapshot's digest depends on the digests of its shards, so that computing it needs the commits and one listing per
folder, and reads no shard.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from teacher_cache.errors import repair_hint
from teacher_cache.format.commits import Shard
from teacher_cache.format.sources import Source
from teacher_cache.keys import canonical_json, sha256
from teacher_cache.storage.cache import Cache

LAYOUT = 3  # version of the decoded files


@dataclass(frozen=True)
class Snapshot:
    """The live shards that exist: those with features, and the tars of pictures with their indexes."""

    teacher: Source
    encoder: Source
    features: tuple[Shard, ...]
    images: tuple[Shard, ...]

    @property
    def indexes(self) -> list[Shard]:
        """The indexes of the pictures."""
        return [tar.index for tar in self.images if tar.index]

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
        shards = [[shard.sha256 for shard in group] for group in (self.features, self.indexes)]
        return sha256(canonical_json([LAYOUT, self.teacher.digest, self.encoder.digest, *shards]))[:32]


def take_snapshot(cache: Cache, teacher: Source, encoder: Source) -> Snapshot:
    """Return the snapshot of now, from one listing per folder. Missing shards are left out.

    Commits that can't be read are named on standard error.
    """
    cache.refresh()
    cache.commits()
    for name, reason in cache.log.unreadable.items():
        print(f"warning: {cache.store}/commits/{name} is ignored: {reason}; {repair_hint()}", file=sys.stderr)
    return Snapshot(
        teacher,
        encoder,
        tuple(cache.shards(f"features/{teacher.name}/{encoder.name}/shards/")),
        tuple(cache.shards(f"images/{teacher.name}/")),
    )
