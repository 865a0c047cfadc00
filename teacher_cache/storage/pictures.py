"""Stored pictures: read from tars by their offsets in the index, and compared with their digests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.errors import CacheError, NoFileError, repair_hint
from teacher_cache.format.arrow import first_of_each, one_array
from teacher_cache.format.digests import from_column, from_hex, index_digests, same_at
from teacher_cache.format.shards import ImageRow
from teacher_cache.keys import sha256
from teacher_cache.storage.cache import Cache

SHARD_BYTES = 1 << 30  # bytes of pictures per shard, at most, unless one picture is larger


def read_pictures(cache: Cache, rows: pa.Table) -> Iterator[bytes]:
    """Yield the pictures of index rows (`path`, `offset`, `bytes`, `image_sha256`, `image_key`).

    If the rows are `in_tar_order`, each tar is opened only once. Raise NoFileError if a tar does not exist, CacheError
    if the bytes of a picture have changed.
    """
    columns = ["path", "offset", "bytes", "image_sha256", "image_key"]
    for path, group in _by_path(rows.select(columns)):
        with _opened(cache, path) as stream:
            for batch in group.to_batches(max_chunksize=1024):
                for row in batch.to_pylist():
                    stream.seek(row["offset"])
                    yield _checked(cache, row, stream.read(row["bytes"]))


def read_picture(cache: Cache, row: Mapping[str, Any]) -> bytes:
    """Return the picture of one index row, as `read_pictures` yields it and with the same errors."""
    try:
        return _checked(cache, row, cache.store.read_range(row["path"], row["offset"], row["bytes"]))
    except NoFileError as error:
        raise cache.absent(error, row["path"]) from None


@contextmanager
def _opened(cache: Cache, path: str) -> Iterator[IO[bytes]]:
    try:
        with cache.store.open(path) as stream:
            yield stream
    except NoFileError as error:
        raise cache.absent(error, path) from None


def _checked(cache: Cache, row: Mapping[str, Any], picture: bytes) -> bytes:
    if sha256(picture) != row["image_sha256"]:
        raise CacheError(
            f"{cache.store}/{row['path']}: the picture {row['image_key']} differs from its sha256; {repair_hint()}"
        )
    return picture


def index_rows(cache: Cache, places: pa.Table, limit: int, most_bytes: int = SHARD_BYTES) -> Iterator[pa.Table]:
    """Yield the complete index rows (IMAGE_COLUMNS and `path`) of some pictures (key_columns.PLACE_COLUMNS), in tar
    order.

    A table has at most `limit` rows, so that a million prompts are never in memory at once, and its pictures have at
    most `most_bytes` bytes, unless it is one picture. Raise NoFileError if an index does not exist any more.
    """
    shards = {shard.path: shard for commit in cache.commits() for shard in commit.added if shard.index}
    shards |= cache.state.live
    pending: list[pa.Table] = []
    for path, group in _by_path(places.take(pc.sort_indices(_codes(places)))):
        table = cache.table(shards[path])
        keys, digests = (from_hex(table[name], path) for name in ("image_key", "image_sha256"))
        place = index_digests(from_column(group["image_key"])).find(keys)
        is_canonical = same_at(from_column(group["image_sha256"]), place, digests)
        rows = table.append_column("path", pa.repeat(path, table.num_rows)).filter(pa.array(is_canonical))
        rows = first_of_each(rows, "image_key")
        pending.append(rows.sort_by([("offset", "ascending")]))
        while size := _fitting(pending, limit, most_bytes):
            rows = pa.concat_tables(pending, promote_options="default")
            yield rows.slice(0, size)
            pending = [rows.slice(size)]
    rest = pa.concat_tables(pending, promote_options="default") if pending else None
    if rest is not None and rest.num_rows:
        yield rest


def _fitting(pending: list[pa.Table], limit: int, most_bytes: int) -> int:
    """Return how many of the rows fill a shard, 0 if all of them fit into one with room to spare."""
    sizes = np.concatenate([table["bytes"].to_numpy() for table in pending]).cumsum()
    fitting = min(len(sizes), max(1, int((sizes[:limit] <= most_bytes).sum())))
    return fitting if fitting < len(sizes) or fitting == limit else 0


def image_rows(rows: pa.Table) -> list[ImageRow]:
    """Return the facts of index rows as they are stored beside the pictures."""
    names = [name for name in ImageRow.__dataclass_fields__ if name in rows.column_names]
    facts = rows.select(names).to_pylist()
    return [ImageRow(**(row | {"drawn_prompt": row.get("drawn_prompt") or ""})) for row in facts]


def in_tar_order(rows: pa.Table) -> pa.Table:
    """Sort index rows by tar and offset, so that `read_pictures` opens each tar once and reads it forwards."""
    return rows.take(np.lexsort((rows["offset"].to_numpy(), _codes(rows))))


def _codes(rows: pa.Table) -> np.ndarray:
    """Return a number for each row, equal for equal `path`, (N,)."""
    path: np.ndarray = one_array(pc.dictionary_encode(rows["path"])).indices.to_numpy()
    return path


def _by_path(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yield the runs of consecutive rows with the same path."""
    edges = np.flatnonzero(np.diff(_codes(rows), prepend=-1, append=-1))
    for start, end in itertools.pairwise(edges.tolist()):
        yield rows["path"][start].as_py(), rows.slice(start, end - start)
