"""Repair: save everything that is still sound, because pictures cost money.

A damaged file is moved aside, never deleted. What is sound in it is committed anew, and the same commit records the
file as lost: if a sound copy of it arrives later, by a copy or a merge, its rows count again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from teacher_cache.errors import CacheError
from teacher_cache.format.arrow import first_of_each
from teacher_cache.format.commits import Entry, Shard, check_shard
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.shards import feature_type, index_of, read_table, schema_of
from teacher_cache.format.sources import Source
from teacher_cache.keys import image_key, prompt_key, sha256
from teacher_cache.registry.packages import file_digest
from teacher_cache.rewriting.rows import check_rewrites, rewriters
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.pictures import image_rows, read_pictures
from teacher_cache.storage.state import cache_state
from teacher_cache.storage.writing import commit_pictures

ADOPTED = "committed"


def fault_of(cache: Cache, shard: Shard) -> str:
    """Return what is wrong with the content of a shard whose files have their digests, "" if nothing is."""
    try:
        table = cache.table(shard)
        if shard.index:
            with cache.store.draft() as draft:
                cache.store.copy_to(shard.path, draft)
                if not index_of(draft).equals(table):
                    return f"{shard.index.path} is not the index of its tar"
        elif shard.path.startswith("features/"):
            check_features(cache, shard.path, table)
        elif shard.path.startswith("rewrites/"):
            check_rewrites(_rewriter_of(cache, shard.path), table, shard.path)
    except CacheError as error:
        return str(error)
    return ""


def mend(cache: Cache, shard: Shard, damaged: Sequence[str], provenance: Provenance) -> str:
    """Save what is sound of a live shard. Return what was done, for the report.

    `damaged` are the paths of its files that are damaged: they are moved aside first. Its other files may be missing. A
    repair that is killed continues when it is run again.
    """
    lost = _lost_without(cache, shard)
    is_gone = bool(damaged)
    asides = {path: cache.store.quarantine(path) for path in damaged}
    done, aside = "", asides.get(shard.path, f"quarantine/{shard.path}")
    try:
        if shard.index and cache.store.exists(shard.path):
            rebuilt = _rebuilt(cache, shard.path)
            if rebuilt is not None:
                _publish_index(cache, shard, rebuilt, provenance)
                return "; ".join([*(f"moved to {path}" for path in asides.values()), "index made again from its tar"])
            asides[shard.path] = aside = cache.store.quarantine(shard.path)
        if cache.store.exists(aside):
            is_gone = True  # an earlier repair was killed after it had moved the file
            done = _saved(cache, shard, aside, lost, provenance) if shard.index else ""
    except CacheError as error:
        done = f"nothing saved: {error}"
    if is_gone and not done.endswith("pictures saved"):
        cache.commit([], lost=lost, **provenance.now())
    cache.refresh()
    return "; ".join([*(f"moved to {path}" for path in asides.values()), *filter(None, [done])])


def _rebuilt(cache: Cache, tar: str) -> pa.Table | None:
    """Return the index of a tar, or None if the tar is damaged."""
    with cache.store.draft() as draft:
        cache.store.copy_to(tar, draft)
        if not tar.endswith(f"/{file_digest(draft)[:32]}.tar"):
            return None
        try:
            return index_of(draft)
        except CacheError:
            return None


def _publish_index(cache: Cache, shard: Shard, index: pa.Table, provenance: Provenance) -> None:
    """Write an index, and commit it with its tar unless it is the index that the commits name."""
    written = cache.write_shard(f"{shard.path.rpartition('/shards/')[0]}/indexes", index)
    if written != shard.index:
        added = replace(shard, rows=index.num_rows, index=written)
        cache.commit([added], replaced=cache.state.entries_of([shard]), **provenance.now())
    cache.refresh()


def _saved(cache: Cache, shard: Shard, aside: str, lost: Sequence[Entry], provenance: Provenance) -> str:
    """Write the pictures of a damaged tar, which was moved to `aside`, that still have their digest into a new tar."""
    teacher = _teacher_of(cache, shard.path)
    if not shard.index or teacher is None or not cache.store.exists(shard.index.path):
        return ""
    table = cache.table(shard)
    places: list[int] = []
    with cache.store.open(aside) as stream:
        for place, row in enumerate(table.select(["offset", "bytes", "image_sha256"]).to_pylist()):
            stream.seek(row["offset"])
            if sha256(stream.read(row["bytes"])) == row["image_sha256"]:
                places.append(place)
    if not places:
        return "no picture in it is sound"
    sound = first_of_each(table.take(pa.array(places, pa.int64())), "image_key")
    sound = sound.append_column("path", pa.repeat(aside, sound.num_rows))
    commit_pictures(cache, teacher, image_rows(sound), read_pictures(cache, sound), provenance, lost=lost)
    return f"{sound.num_rows} of {table.num_rows} pictures saved"


def _lost_without(cache: Cache, shard: Shard) -> list[Entry]:
    """Return the entries that are lost with a shard: its own, and those that it replaced and whose files are gone."""
    state = cache.state
    sound = {**state.listed, **{file.path: file.bytes for file in shard.files()}}
    before = {other.path for other in cache_state(state.commits.values(), sound).missing}
    after = cache_state(state.commits.values(), {path: sound[path] for path in sound if path != shard.path})
    lost = [other for other in after.missing if other.path not in before or other.path == shard.path]
    return [*state.entries_of([shard]), *after.entries_of(lost)]


def accept_loss(cache: Cache, shard: Shard, provenance: Provenance) -> str:
    """Record that a missing shard is lost, if what it replaced contains its rows. Return what was done."""
    if any(shard.path == other.path for other in cache.state.missing):
        return ""
    cache.commit([], lost=cache.state.entries_of([shard]), **provenance.now())
    return "its rows are in the shards that it replaced, which count again"


def adopt(cache: Cache, path: str, provenance: Provenance) -> str:
    """Commit a file that no commit names, or move it aside if it is not a sound shard of this cache.

    Return ADOPTED or where the file was moved, for the report.
    """
    try:
        shard = _adopted(cache, path)
        cache.commit([shard], **provenance.now())
        return ADOPTED
    except CacheError as error:
        return f"moved to {cache.store.quarantine(path)}: {error}"


def _adopted(cache: Cache, path: str) -> Shard:
    """Return the shard of a file. Raise CacheError if it is not one that this cache could have written."""
    with cache.store.draft() as draft:
        cache.store.copy_to(path, draft)
        shard = Shard(path, draft.stat().st_size, 0, file_digest(draft))
        if path.endswith(".tar"):
            index = index_of(draft)
        else:
            with draft.open("rb") as stream:
                table = read_table(stream, path, schema_of(path))
    teacher = _teacher_of(cache, path)
    if path.endswith(".tar"):
        if teacher:  # otherwise the next build writes teacher.json again
            _check_keys(teacher, index)
        check_shard(shard)
        written = cache.write_shard(f"{path.rpartition('/shards/')[0]}/indexes", index)
        return replace(shard, rows=index.num_rows, index=written)
    if path.startswith("features/"):
        check_features(cache, path, table)
    if path.startswith("rewrites/"):
        check_rewrites(_rewriter_of(cache, path), table, path)
    return check_shard(replace(shard, rows=table.num_rows))


def _check_keys(teacher: Source, index: pa.Table) -> None:
    """Raise CacheError if a picture's key is not that of its request to the teacher."""
    for row in index.select(["image_key", "prompt_key", "prompt", "sample"]).to_pylist():
        prompt = prompt_key(row["prompt"])
        if (prompt, image_key(teacher.digest, prompt, row["sample"])) != (row["prompt_key"], row["image_key"]):
            raise CacheError(f"the key {row['image_key']} is not that of its prompt")


def check_features(cache: Cache, path: str, table: pa.Table) -> None:
    """Raise CacheError if a table is not of features, or not as the encoder of its folder computes them."""
    teacher = _teacher_of(cache, path)
    encoders = {encoder.name: encoder for encoder in cache.encoders(teacher)} if teacher else {}
    encoder = encoders.get(path.split("/")[2])
    found = table.schema.field("feature").type if table.column_names.count("feature") == 1 else pa.null()
    length = found.list_size if pa.types.is_fixed_size_list(found) else 1
    # Without its encoder.json, which the next build writes again, any feature is accepted.
    types = [feature_type(length, dtype) for dtype in ("float16", "float32")]
    types = [feature_type(encoder.spec["dimension"], encoder.spec["dtype"])] if encoder else types
    if found not in types or table["feature"].null_count:
        raise CacheError(f"{path}: expected a column feature of type {' or '.join(map(str, types))}, found {found}")


def _rewriter_of(cache: Cache, path: str) -> Source | None:
    """Return the rewriter in whose folder a file is, or None if the cache has no such rewriter."""
    return next((rewriter for rewriter in rewriters(cache) if path.split("/")[1] == rewriter.name), None)


def _teacher_of(cache: Cache, path: str) -> Source | None:
    """Return the teacher in whose folder a file is, or None if the cache has no such teacher."""
    return next((teacher for teacher in cache.teachers() if path.split("/")[1] == teacher.name), None)
