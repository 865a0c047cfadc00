"""Compaction: rewrite many small shards as few large ones. Each old shard is read once.

A commit replaces the old shards; their files stay until a vacuum removes them. A kill in between leaves at worst a file
that no commit names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.format.arrow import first_of_each, one_array
from teacher_cache.format.commits import Provenance, Shard, tar_of
from teacher_cache.format.shards import feature_matrix
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import read_pictures
from teacher_cache.storage.writing import commit_features, commit_pictures, image_rows


@dataclass
class Compacted:
    """The numbers of shards before and after, and of the files and bytes that the vacuum removed."""

    shards_before: int = 0
    shards_after: int = 0
    removed: int = 0
    removed_bytes: int = 0


def compact(
    cache: Cache, *, shard_rows: int = 8192, vacuum: bool = False, clock: Callable[[], float] = time.time
) -> Compacted:
    """Compact the pictures and the Parquet features of every teacher into shards of at most `shard_rows` rows.

    With `vacuum`, remove the files of all shards that are replaced. Tars of samples (pictures with features) stay as
    they are. Raise CacheError if a shard is damaged.
    """
    done = Compacted(shards_before=len(cache.shards()))
    provenance = Provenance(clock, "compaction")
    for teacher in cache.teachers():
        folder = f"images/{teacher.name}/shards/"
        for group in _groups([s for s in cache.shards(folder) if s.path.endswith(".parquet")], shard_rows):
            _compact_pictures(cache, teacher, group, provenance)
        for encoder in cache.encoders(teacher):
            folder = f"features/{teacher.name}/{encoder.name}/shards/"
            shards = [s for s in cache.shards(folder) if s.path.endswith(".parquet") and not tar_of(s.path)]
            stale = _stale_features(cache, teacher, encoder)
            for group in _groups(shards, shard_rows):
                _compact_features(cache, teacher, encoder, group, stale, provenance)
    done.shards_after = len(cache.shards())
    if vacuum:
        _vacuum(cache, done)
    return done


def _groups(shards: Sequence[Shard], shard_rows: int) -> Iterator[list[Shard]]:
    """Yield runs of two or more consecutive shards that fit into one."""
    group: list[Shard] = []
    rows = 0
    for shard in shards:
        if rows + shard.rows > shard_rows:
            if len(group) > 1:
                yield group
            group, rows = [], 0
        group.append(shard)
        rows += shard.rows
    if len(group) > 1:
        yield group


def _compact_pictures(cache: Cache, teacher: Source, group: Sequence[Shard], provenance: Provenance) -> None:
    tables = []
    for shard in group:
        table, tar = cache.table(shard), tar_of(shard.path)
        if table is None or not cache.store.exists(tar):
            return  # verify and build handle a missing shard
        tables.append(table.append_column("path", pa.repeat(tar, table.num_rows)))
    rows = pa.concat_tables(tables).sort_by([("image_key", "ascending"), ("image_sha256", "ascending")])
    rows = first_of_each(rows, "image_key")
    replaced = [path for shard in group for path in (shard.path, tar_of(shard.path))]
    with progress(rows.num_rows, "compact pictures", "picture") as bar:
        pictures = _counted(_one_by_one(cache, rows), bar.update)
        commit_pictures(cache, teacher, image_rows(rows), pictures, provenance, replaced)


def _one_by_one(cache: Cache, rows: pa.Table) -> Iterator[bytes]:
    """Yield the pictures in the order of the rows, each from its tar."""
    for place in range(rows.num_rows):
        yield from read_pictures(cache, rows.slice(place, 1))


def _counted(pictures: Iterator[bytes], done: Callable[[int], object]) -> Iterator[bytes]:
    """Yield the pictures, and call `done(1)` after each."""
    for picture in pictures:
        yield picture
        done(1)


def _stale_features(cache: Cache, teacher: Source, encoder: Source) -> pa.Array:
    """Return the features of pictures that are not canonical, as "KEY/DIGEST". There are few of them."""
    features, images = cache.feature_keys(teacher, encoder), cache.images(teacher, [])
    place = pc.index_in(features["image_key"], one_array(images["image_key"]))
    differs = pc.not_equal(pc.take(images["image_sha256"], place), features["image_sha256"])
    return one_array(_pairs(features.filter(differs)))


def _pairs(rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(rows["image_key"], rows["image_sha256"], "/")


def _compact_features(
    cache: Cache, teacher: Source, encoder: Source, group: Sequence[Shard], stale: pa.Array, provenance: Provenance
) -> None:
    found = [cache.table(shard) for shard in group]
    tables = [table for table in found if table is not None]
    if len(tables) < len(group):
        return
    table = pa.concat_tables(tables)
    table = first_of_each(table.filter(pc.invert(pc.is_in(_pairs(table), stale))), "image_key")
    features = np.asarray(feature_matrix(table["feature"]), np.float32)
    commit_features(cache, teacher, encoder, table, features, provenance, [shard.path for shard in group])


def _vacuum(cache: Cache, done: Compacted) -> None:
    live = {shard.path for shard in cache.shards()}
    for shard in {shard.path: shard for commit in cache.commits() for shard in commit.added}.values():
        if shard.path not in live and cache.store.exists(shard.path):
            cache.store.remove(shard.path)
            done.removed += 1
            done.removed_bytes += shard.bytes
