"""A snapshot: the shards that decide the features of a teacher and encoder, at one moment. Its digest is theirs, so
that knowing it takes the commits and two listings and reads no shard.
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

LAYOUT = 2  # of the decoded files


@dataclass(frozen=True)
class Snapshot:
    """Shards that are there: those of features (Parquet, or the index of a tar), and the indexes of pictures."""

    teacher: Source
    encoder: Source
    features: tuple[Shard, ...]
    images: tuple[Shard, ...]
    tars: Mapping[str, Shard]  # of the indexes among them, by the index's path

    @property
    def rows(self) -> int:
        """Feature rows, with those that don't count."""
        return sum(shard.rows for shard in self.features)

    @property
    def dimension(self) -> int:
        """Numbers a feature."""
        return int(self.encoder.spec["dimension"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Their type."""
        dtype: np.dtype[Any] = np.dtype(self.encoder.spec["dtype"])
        return dtype

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits."""
        shards = [[shard.sha256 for shard in group] for group in (self.features, self.images)]
        return sha256(canonical_json([LAYOUT, self.teacher.digest, self.encoder.digest, *shards]))[:32]


def take_snapshot(cache: Cache, teacher: Source, encoder: Source, *, tries: int = 3) -> Snapshot:
    """What is there now. A shard that a commit names and that is missing is left out, but for this: where the commits
    changed meanwhile (someone compacted), all is listed anew."""
    pictures, features = f"images/{teacher.name}/", f"features/{teacher.name}/{encoder.name}/"
    others = f"features/{teacher.name}/"  # tars of samples hold pictures too
    while True:
        live = [shard for shard in cache.shards() if shard.path.startswith((pictures, others))]
        found = there(cache, live)
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


def there(cache: Cache, shards: Sequence[Shard]) -> dict[str, Shard]:
    """Those of the shards whose files are in the cache, by path; a listing a folder, none a file."""
    folders = {shard.path.rpartition("/")[0] for shard in shards}
    names = {f"{folder}/{name}" for folder in folders for name in cache.store.names(folder)}
    return {shard.path: shard for shard in shards if shard.path in names}
