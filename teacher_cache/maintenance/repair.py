"""Repair: what can be saved is saved, since a picture was paid for. Sound pictures of a broken tar go into a new one,
an index is read anew from its tar, and a whole file that no commit names is committed.
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


def _signature() -> Provenance:
    return Provenance(time.time, "repair")


def save_sound_rows(cache: Cache, shard: Shard, aside: str = "") -> str:
    """Save what is sound of a broken or missing shard; `aside` is where the broken file lies. Says what was done."""
    try:
        if shard.path.endswith(".tar") and aside:
            return _save_pictures(cache, shard, aside)
        tar = tar_of(shard.path)
        if tar and cache.store.exists(tar):
            return "index read anew from its tar" if _index_again(cache, tar) else "its tar is damaged too"
    except CacheError as error:
        return f"nothing saved: {error}"
    return ""


def _save_pictures(cache: Cache, shard: Shard, aside: str) -> str:
    """The pictures of a broken tar that still have their digest, into a tar of their own."""
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
    kept = table.take(pa.array(places, pa.int64()))
    pictures = read_pictures(cache, kept.append_column("path", pa.repeat(aside, kept.num_rows)))
    commit_pictures(cache, teacher, image_rows(kept), pictures, _signature())
    return f"{len(places)} of {table.num_rows} pictures saved"


def _index_again(cache: Cache, tar: str) -> bool:
    """Write the index of a whole tar anew, and commit both under their names; False where the tar isn't whole."""
    with cache.store.draft() as draft:
        cache.store.copy_to(tar, draft)
        digest = file_digest(draft)
        if digest[:32] != tar.rpartition("/")[2].removesuffix(".tar"):
            return False
        index = index_of(draft)
        whole = Shard(tar, draft.stat().st_size, index.num_rows, digest)
    cache.commit([whole, cache.write_shard("", index, index_path(tar))], **_signature().now())
    return True


def adopt(cache: Cache, path: str) -> str:
    """Commit a whole file that no commit names; move it aside where it isn't whole. Says what was done."""
    with contextlib.suppress(CacheError):
        if path.endswith(".tar"):
            if _index_again(cache, path):
                return ADOPTED
        elif path.endswith(".parquet") and not tar_of(path):
            data = cache.store.read(path)
            if sha256(data)[:32] == path.rpartition("/")[2].removesuffix(".parquet"):
                rows = read_table(pa.BufferReader(data), path).num_rows
                cache.commit([Shard(path, len(data), rows, sha256(data))], **_signature().now())
                return ADOPTED
    return f"moved to {cache.store.quarantine(path)}"


def _teacher_of(cache: Cache, path: str) -> Source | None:
    return next((teacher for teacher in cache.teachers() if path.split("/")[1] == teacher.name), None)
