"""Stored pictures, read back out of tars by their place in the index and checked against their digest."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pyarrow as pa

from teacher_cache.cache import Cache
from teacher_cache.errors import CacheError
from teacher_cache.keys import sha256


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
                    picture = stream.read(row["bytes"])
                    if sha256(picture) != row["image_sha256"]:
                        raise CacheError(
                            f"{cache.store}/{path}: the picture {row['image_key']} differs from its sha256; "
                            'run "armada cache verify --repair" and the build again, which fills the gap'
                        )
                    yield picture


def in_tar_order(rows: pa.Table) -> pa.Table:
    """Index rows in the order in which `read_pictures` opens each tar once and reads it forwards."""
    return rows.sort_by([("path", "ascending"), ("offset", "ascending")])


def _by_path(rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    paths = rows["path"].to_pylist()
    start = 0
    for end in range(1, len(paths) + 1):
        if end == len(paths) or paths[end] != paths[start]:
            yield paths[start], rows.slice(start, end - start)
            start = end


def picture_fault(data: bytes) -> tuple[str, str] | None:
    """A reason and message for bytes that are no picture, or one of a single colour; None for a sound picture."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return "undecodable", f"{len(data)} bytes that are no picture: {error}"
    if (pixels == pixels[0]).all():
        return "blank", f"every pixel has the colour {tuple(pixels[0].tolist())}"
    return None
