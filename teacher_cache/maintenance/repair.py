"""Repair: save everything that is still sound, because pictures cost money.

Sound pictures of a damaged tar are written into a new one, an index is rebuilt from its tar, and a complete file that
no commit names is committed.
"""

from __future__ import annotations

import contextlib
import time

import pyarrow as pa

from teacher_cache.errors import CacheError
from teacher_cache.format.commits import Provenance, Shard, index_path, tar_of
from teacher_cache.format.shards import index_of, read_table
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.registry.packages import file_digest
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import read_pictures
from teacher_cache.storage.writing import commit_pictures, image_rows

ADOPTED = "committed"


def _provenance() -> Provenance:
    return Provenance(time.time, "repair")


def save_sound_rows(cache: Cache, shard: Shard, aside: str = "") -> str:
    """Save what is sound of a damaged or missing shard. Return what was done, for the report; "" if nothing was.

    `aside` is the path to which the damaged file was moved, or "" if the file is missing.
    """
    try:
        if shard.path.endswith(".tar") and aside:
            return _save_pictures(cache, shard, aside)
        tar = tar_of(shard.path)
        if tar and cache.store.exists(tar):
            return "index rebuilt from its tar" if _rebuild_index(cache, tar) else "its tar is damaged too"
    except CacheError as error:
        return f"nothing saved: {error}"
    return ""


def _save_pictures(cache: Cache, shard: Shard, aside: str) -> str:
    """Write the pictures of a damaged tar that still have their digest into a new tar."""
    teacher = _teacher_of(cache, shard.path)
    index = next((other for other in cache.shards() if tar_of(other.path) == shard.path), None)
    table = cache.table(index) if index else None
    if table is None or teacher is None:
        return ""
    places: list[int] = []
    with cache.store.open(aside) as stream:
        for place, row in enumerate(table.select(["offset", "bytes", "image_sha256"]).to_pylist()):
            stream.seek(row["offset"])
            if sha256(stream.read(row["bytes"])) == row["image_sha256"]:
                places.append(place)
    if not places:
        return "no picture in it is sound"
    sound = table.take(pa.array(places, pa.int64()))
    pictures = read_pictures(cache, sound.append_column("path", pa.repeat(aside, sound.num_rows)))
    commit_pictures(cache, teacher, image_rows(sound), pictures, _provenance())
    return f"{len(places)} of {table.num_rows} pictures saved"


def _rebuild_index(cache: Cache, tar: str) -> bool:
    """Rebuild the index of a tar and commit both under their names. Return False if the tar is not complete."""
    with cache.store.draft() as draft:
        cache.store.copy_to(tar, draft)
        digest = file_digest(draft)
        if digest[:32] != tar.rpartition("/")[2].removesuffix(".tar"):
            return False
        index = index_of(draft)
        shard = Shard(tar, draft.stat().st_size, index.num_rows, digest)
    cache.commit([shard, cache.write_shard("", index, index_path(tar))], **_provenance().now())
    return True


def adopt(cache: Cache, path: str) -> str:
    """Commit a file that no commit names, or move it aside if it is not complete.

    Return ADOPTED or where the file was moved, for the report.
    """
    with contextlib.suppress(CacheError):
        if path.endswith(".tar"):
            if _rebuild_index(cache, path):
                return ADOPTED
        elif path.endswith(".parquet") and not tar_of(path):
            data = cache.store.read(path)
            if sha256(data)[:32] == path.rpartition("/")[2].removesuffix(".parquet"):
                rows = read_table(pa.BufferReader(data), path).num_rows
                cache.commit([Shard(path, len(data), rows, sha256(data))], **_provenance().now())
                return ADOPTED
    return f"moved to {cache.store.quarantine(path)}"


def _teacher_of(cache: Cache, path: str) -> Source | None:
    """Return the teacher in whose folder a file is, or None if the cache has no such teacher."""
    return next((teacher for teacher in cache.teachers() if path.split("/")[1] == teacher.name), None)
