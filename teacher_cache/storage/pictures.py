"""Stored pictures, read back out of tars by their place in the index and checked against their digest."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.format.arrow import one_array
from teacher_cache.format.commits import index_path
from teacher_cache.keys import sha256
from teacher_cache.storage.cache import Cache


def read_pictures(cache: Cache, rows: pa.Table) -> Iterator[bytes]:
    """The pictures of index rows (`path`, `offset`, `bytes`, `image_sha256`).

    Rows should be `in_tar_order`: each tar is opened once. Raises CacheError for bytes that changed.
    """
    columns = ["path", "offset", "bytes", "image_sha256", "image_key"]
    for path, group in _by_path(rows.select(columns)):
        with cache.store.open(path) as stream:
            for batch in group.to_batches(max_chunksize=1024):
                for row in batch.to_pylist():
                    stream.seek(row["offset"])
                    yield _checked(cache, row, stream.read(row["bytes"]))


def read_picture(cache: Cache, row: Mapping[str, Any]) -> bytes:
    """The picture of one index row. Raises NoFileError where the tar is gone, CacheError for bytes that changed."""
    return _checked(cache, row, cache.store.read_range(row["path"], row["offset"], row["bytes"]))


def _checked(cache: Cache, row: Mapping[str, Any], picture: bytes) -> bytes:
    if sha256(picture) != row["image_sha256"]:
        raise CacheError(
            f"{cache.store}/{row['path']}: the picture {row['image_key']} differs from its sha256; "
            'run "armada cache verify --repair" and the build again, which fills the gap'
        )
    return picture


def index_rows(cache: Cache, places: pa.Table, limit: int) -> Iterator[pa.Table]:
    """The whole index rows (IMAGE_COLUMNS and `path`) of pictures given by `image_key`, `image_sha256` and `path`, in
    tar order, at most `limit` a table: so that a million prompts needn't be in memory at once."""
    shards = {shard.path: shard for commit in cache.commits() for shard in commit.added}
    held: list[pa.Table] = []
    for path, group in _by_path(places.take(pc.sort_indices(_codes(places)))):
        shard = shards[index_path(path)]
        table = cache.table(shard)
        if table is None:
            raise NoFileError(f"{cache.store}/{shard.path}: no such file; run the build again to fill the gap")
        place = pc.index_in(table["image_key"], one_array(group["image_key"]))
        counts = pc.fill_null(pc.equal(pc.take(group["image_sha256"], place), table["image_sha256"]), False)
        rows = table.append_column("path", pa.repeat(path, table.num_rows)).filter(counts)
        held.append(rows.sort_by([("offset", "ascending")]))
        while sum(table.num_rows for table in held) >= limit:
            rows = pa.concat_tables(held)
            yield rows.slice(0, limit)
            held = [rows.slice(limit)]
    rest = pa.concat_tables(held) if held else None
    if rest is not None and rest.num_rows:
        yield rest


def in_tar_order(rows: pa.Table) -> pa.Table:
    """Index rows in the order in which `read_pictures` opens each tar once and reads it forwards."""
    return rows.take(np.lexsort((rows["offset"].to_numpy(), _codes(rows))))


def _codes(rows: pa.Table) -> np.ndarray:
    """The `path` of each row as a number, (N,)."""
    path: np.ndarray = one_array(pc.dictionary_encode(rows["path"])).indices.to_numpy()
    return path


def _by_path(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Runs of rows with one path."""
    edges = np.flatnonzero(np.diff(_codes(rows), prepend=-1, append=-1))
    for start, end in itertools.pairwise(edges.tolist()):
        yield rows["path"][start].as_py(), rows.slice(start, end - start)


def picture_fault(data: bytes) -> tuple[str, str] | None:
    """A reason and message for bytes that are no picture, or one of a single colour; None for a sound picture."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return "undecodable", f"{len(data)} bytes that are no picture: {error}"
    if (pixels == pixels[0]).all():
        return "blank", f"every pixel has the colour {tuple(pixels[0].tolist())}"
    return None
