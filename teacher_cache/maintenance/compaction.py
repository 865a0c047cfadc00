"""Compaction: rewrite many small shards as few large ones. Each old shard is read once.

A commit replaces the old shards; their files stay until a vacuum removes them. A kill in between leaves at worst a file
that no commit names.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from teacher_cache.errors import CacheError
from teacher_cache.format.arrow import first_of_each
from teacher_cache.format.commits import Entry, Shard
from teacher_cache.format.digests import DigestIndex, from_column, from_hex, index_digests, same_at
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.shards import feature_matrix
from teacher_cache.format.sources import Source
from teacher_cache.maintenance.repair import check_features
from teacher_cache.maintenance.vacuum import RETAIN_HOURS, remove_replaced
from teacher_cache.progress_bar import progress
from teacher_cache.rewriting.rows import commit_rewrites, rewriters, shards_folder
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import canonical_pictures
from teacher_cache.storage.pictures import SHARD_BYTES, image_rows, read_pictures
from teacher_cache.storage.writing import commit_failures, commit_features, commit_pictures


@dataclass
class Compacted:
    """The numbers of shards before and after, and of the files and bytes that the vacuum removed.

    `kept` are the replaced files that stay because what replaces them is damaged, each with the reason.
    """

    shards_before: int = 0
    shards_after: int = 0
    removed: int = 0
    removed_bytes: int = 0
    kept: dict[str, str] = field(default_factory=dict)


def compact(
    cache: Cache,
    *,
    shard_rows: int = 8192,
    shard_bytes: int = SHARD_BYTES,
    vacuum: bool = False,
    retain_hours: float = RETAIN_HOURS,
    clock: Callable[[], float] = time.time,
) -> Compacted:
    """Compact the pictures, features and failures of every teacher, and what rewriters made of texts, into shards of at
    most `shard_rows` rows and `shard_bytes` bytes.

    With `vacuum`, also remove the files that were replaced at least `retain_hours` ago, see `remove_replaced`. A group
    with a missing shard stays as it is. Raise CacheError if a shard is damaged.
    """
    cache.refresh()
    if cache.state.left_out:
        raise CacheError(f"{cache.store}: this copy has a part of a cache; compact the whole one, and pull it again")
    done = Compacted(shards_before=len(cache.shards()))
    provenance = Provenance(clock, "compaction")
    for teacher in cache.teachers():
        for group in _groups(cache, f"images/{teacher.name}/", shard_rows, shard_bytes):
            _compact_pictures(cache, teacher, group, provenance)
        if encoders := cache.encoders(teacher):
            canonical = _canonical(cache, teacher)
            for encoder in encoders:
                folder = f"features/{teacher.name}/{encoder.name}/shards/"
                for group in _groups(cache, folder, shard_rows, shard_bytes):
                    _compact_features(cache, teacher, encoder, group, canonical, provenance)
    for rewriter in rewriters(cache):
        for group in _groups(cache, shards_folder(rewriter), shard_rows, shard_bytes):
            _compact_rewrites(cache, rewriter, group, provenance)
    for source in [*cache.teachers(), *rewriters(cache)]:
        for group in _groups(cache, f"failures/{source.name}/", shard_rows, shard_bytes):
            _compact_failures(cache, source, group, provenance)
    done.shards_after = len(cache.shards())
    if vacuum:
        removed = remove_replaced(cache, retain_hours, clock)
        done.removed, done.removed_bytes, done.kept = removed.files, removed.bytes, removed.kept
    cache.log.write_checkpoint()
    return done


@dataclass(frozen=True)
class _Group:
    """Shards that become one, and their live entries."""

    shards: list[Shard]
    entries: list[Entry]


def _groups(cache: Cache, folder: str, shard_rows: int, shard_bytes: int) -> Iterator[_Group]:
    """Yield runs of two or more consecutive shards of a folder that fit into one.

    All are of the state in which the first one is found. To list the cache and work out its state anew for each group,
    after the commit of the last one, would take time by the square of their number.
    """
    shards, state = cache.shards(folder), cache.state
    group: list[Shard] = []
    rows = size = 0
    for shard in shards:
        if rows + shard.rows > shard_rows or size + shard.bytes > shard_bytes:
            if len(group) > 1:
                yield _Group(group, state.entries_of(group))
            group, rows, size = [], 0, 0
        group.append(shard)
        rows, size = rows + shard.rows, size + shard.bytes
    if len(group) > 1:
        yield _Group(group, state.entries_of(group))


def _compact_pictures(cache: Cache, teacher: Source, group: _Group, provenance: Provenance) -> None:
    found = [cache.table(shard).append_column("path", pa.repeat(shard.path, shard.rows)) for shard in group.shards]
    rows = pa.concat_tables(found, promote_options="default")
    rows = rows.sort_by([("image_key", "ascending"), ("image_sha256", "ascending")])
    rows = first_of_each(rows, "image_key")
    with progress(rows.num_rows, "compact pictures", "picture") as bar:
        pictures = _counted(_one_by_one(cache, rows), bar.update)
        commit_pictures(cache, teacher, image_rows(rows), pictures, provenance, replaced=group.entries)


def _one_by_one(cache: Cache, rows: pa.Table) -> Iterator[bytes]:
    """Yield the pictures in the order of the rows, each from its tar."""
    for place in range(rows.num_rows):
        yield from read_pictures(cache, rows.slice(place, 1))


def _counted(pictures: Iterator[bytes], done: Callable[[int], object]) -> Iterator[bytes]:
    """Yield the pictures, and call `done(1)` after each."""
    for picture in pictures:
        yield picture
        done(1)


@dataclass(frozen=True)
class _Canonical:
    """The canonical picture of each key."""

    keys: DigestIndex
    pictures: np.ndarray  # (N, 32) uint8, by the rows of `keys`

    def others(self, features: pa.Table, where: str) -> np.ndarray:
        """Return which features (B,) are of another picture of a key than the canonical one. A feature without a
        picture is none of them: the picture may be stored elsewhere."""
        keys, pictures = (from_hex(features[name], where) for name in ("image_key", "image_sha256"))
        places = self.keys.find(keys)
        others: np.ndarray = (places >= 0) & ~same_at(self.pictures, places, pictures)
        return others


def _canonical(cache: Cache, teacher: Source) -> _Canonical:
    images = canonical_pictures(cache, teacher)
    return _Canonical(index_digests(from_column(images["image_key"])), from_column(images["image_sha256"]))


def _compact_features(
    cache: Cache, teacher: Source, encoder: Source, group: _Group, canonical: _Canonical, provenance: Provenance
) -> None:
    tables = []
    for shard in group.shards:
        table = cache.table(shard)
        check_features(cache, shard.path, table)
        others = canonical.others(table, f"{cache.store}/{shard.path}")
        tables.append(table.filter(pa.array(~others)) if others.any() else table)
    table = first_of_each(pa.concat_tables(tables), "image_key")
    if table.num_rows:
        features = np.asarray(feature_matrix(table["feature"]), np.float32)
        commit_features(cache, teacher, encoder, table, features, provenance, replaced=group.entries)
    else:  # each of them was computed from a picture that is not canonical
        cache.commit([], replaced=group.entries, **provenance.now())


def _compact_rewrites(cache: Cache, rewriter: Source, group: _Group, provenance: Provenance) -> None:
    table = pa.concat_tables([cache.table(shard) for shard in group.shards])
    table = first_of_each(
        table.sort_by([("rewrite_key", "ascending"), ("rewritten_sha256", "ascending")]), "rewrite_key"
    )
    commit_rewrites(cache, rewriter, table, provenance, replaced=group.entries)


def _compact_failures(cache: Cache, teacher: Source, group: _Group, provenance: Provenance) -> None:
    table = pa.concat_tables([cache.table(shard) for shard in group.shards])
    order = [("image_key", "ascending"), ("attempts", "descending"), ("message", "ascending")]
    table = first_of_each(table.sort_by(order), "image_key")
    commit_failures(cache, teacher, table, provenance, replaced=group.entries)
