"""Listings: the live shards of a cache at one moment, and their rows, read one shard at a time.

Even a million prompts are never in memory at once. A listing's digest changes if a shard is added, replaced or lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from teacher_cache.format.columns import DRAWN_PROMPT, FAILURE_COLUMNS, IMAGE_COLUMNS
from teacher_cache.format.commits import Shard
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.storage.cache import Cache


@dataclass(frozen=True)
class Listing:
    """The live shards whose files are listed, sorted by path, and the digest of their paths."""

    digest: str
    shards: tuple[Shard, ...]

    def below(self, folder: str) -> list[Shard]:
        """Return the shards below a folder."""
        return [shard for shard in self.shards if shard.path.startswith(folder)]


def list_shards(cache: Cache) -> Listing:
    """List the live shards of a cache that exist now. A tar whose index is missing is left out."""
    cache.refresh()
    shards = tuple(cache.shards())
    return Listing(sha256("\n".join(shard.path for shard in shards).encode()), shards)


def image_tables(cache: Cache, listing: Listing, teacher: Source) -> Iterator[pa.Table]:
    """Yield the index rows of a teacher's pictures (IMAGE_COLUMNS, `drawn_prompt`, which is "" without a recipe, and
    `path`, the tar's path), one table per shard.

    A key may occur several times: the picture with the smallest digest is canonical. Raise NoFileError if a shard was
    removed after it was listed.
    """
    for shard in listing.below(f"images/{teacher.name}/"):
        table = cache.table(shard, [*IMAGE_COLUMNS.names, DRAWN_PROMPT.name], check=True)
        yield table.append_column("path", pa.repeat(shard.path, table.num_rows))


def failure_tables(cache: Cache, listing: Listing, teacher: Source) -> Iterator[pa.Table]:
    """Yield the failures of a teacher (FAILURE_COLUMNS), one table per shard.

    A key may occur several times: the row with the most attempts counts, and none if the key has a picture. Raise
    NoFileError if a shard was removed after it was listed.
    """
    for shard in listing.below(f"failures/{teacher.name}/"):
        yield cache.table(shard, FAILURE_COLUMNS.names, check=True)


def feature_tables(cache: Cache, listing: Listing, teacher: Source, encoder: Source) -> Iterator[pa.Table]:
    """Yield image_key and image_sha256 of an encoder's features, one table per shard.

    Raise NoFileError if a shard was removed after it was listed.
    """
    for shard in listing.below(f"features/{teacher.name}/{encoder.name}/shards/"):
        yield cache.table(shard, ["image_key", "image_sha256"])
