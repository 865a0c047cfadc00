"""A cache's rows, one shard at a time, for whoever keeps a list of them: a million prompts are never in memory at once.

A listing is what counted and was there at one moment. Its digest changes when anything was added, replaced or lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from teacher_cache.errors import NoFileError
from teacher_cache.format.commits import Shard, tar_of
from teacher_cache.format.shards import FAILURE_COLUMNS, IMAGE_COLUMNS
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.snapshot import there


@dataclass(frozen=True)
class Listing:
    """The shards that count and are there, sorted by path, and the digest of their names."""

    digest: str
    shards: tuple[Shard, ...]

    def below(self, folder: str) -> list[Shard]:
        """The shards below a folder."""
        return [shard for shard in self.shards if shard.path.startswith(folder)]


def list_shards(cache: Cache) -> Listing:
    """What the cache holds now. An index without its tar counts as missing, as everywhere."""
    found = there(cache, cache.shards())
    shards = tuple(shard for path, shard in found.items() if not tar_of(path) or tar_of(path) in found)
    return Listing(sha256("\n".join(shard.path for shard in shards).encode()), shards)


def image_tables(cache: Cache, listing: Listing, teacher: Source) -> Iterator[pa.Table]:
    """Index rows (IMAGE_COLUMNS and `path`, the tar) of a teacher's pictures, a table a shard. A key may come again:
    the picture of the smallest digest counts. Raises NoFileError where a shard was removed since it was listed."""
    for folder in (f"images/{teacher.name}/shards/", f"features/{teacher.name}/"):
        for shard in listing.below(folder):
            if tar := tar_of(shard.path):
                table = _read(cache, shard, IMAGE_COLUMNS.names)
                yield table.append_column("path", pa.repeat(tar, table.num_rows))


def failure_tables(cache: Cache, listing: Listing, teacher: Source) -> Iterator[pa.Table]:
    """Failures (FAILURE_COLUMNS), a table a shard. A key may come again: the most attempts count, and a picture beats
    any failure. Raises as `image_tables`."""
    for shard in listing.below(f"failures/{teacher.name}/"):
        yield _read(cache, shard, FAILURE_COLUMNS.names)


def feature_tables(cache: Cache, listing: Listing, teacher: Source, encoder: Source) -> Iterator[pa.Table]:
    """image_key and image_sha256 of an encoder's features, a table a shard. Raises as `image_tables`."""
    for shard in listing.below(f"features/{teacher.name}/{encoder.name}/shards/"):
        if shard.path.endswith(".parquet"):
            yield _read(cache, shard, ["image_key", "image_sha256"], whole=False)


def _read(cache: Cache, shard: Shard, columns: Sequence[str], *, whole: bool = True) -> pa.Table:
    table = cache.table(shard, columns, check=whole)
    if table is None:
        raise NoFileError(f"{cache.store}/{shard.path}: no such file; run the build again to fill the gap")
    return table
