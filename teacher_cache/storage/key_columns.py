"""The keys of a cache's rows as digests of 32 bytes, read shard by shard, so that ten million rows fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from teacher_cache.errors import NoFileError
from teacher_cache.format.commits import Shard
from teacher_cache.format.digests import DIGEST, DigestIndex, canonical_rows, from_hex, index_digests, to_column
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache import TRIES, Cache

# The columns of `canonical_pictures`.
PLACE_COLUMNS = pa.schema(
    [("image_key", DIGEST), ("image_sha256", DIGEST), ("path", pa.dictionary(pa.int32(), pa.string()))]
)


def scan_digests(
    cache: Cache, folder: str, columns: Sequence[str], *, check: bool = False
) -> Iterator[tuple[Shard, list[np.ndarray]]]:
    """Yield each live shard below a folder with columns of digests, each (N, 32) uint8; see `Cache.table`.

    If another process removes a shard meanwhile (it compacted the cache), those that replace it are read, so that a row
    may come twice. Raise NoFileError if a shard is removed at each of several tries.
    """
    done: set[str] = set()
    for tries in range(TRIES, 0, -1):
        try:
            for shard in cache.shards(folder):
                if shard.path not in done:
                    table = cache.table(shard, columns, check=check)
                    done.add(shard.path)
                    yield shard, [from_hex(table[name], f"{cache.store}/{shard.path}") for name in columns]
            return
        except NoFileError:
            if tries == 1:
                raise
            cache.refresh()


def picture_digests(cache: Cache, teacher: Source) -> Iterator[tuple[Shard, list[np.ndarray]]]:
    """Yield each tar of a teacher with its image_key and image_sha256, each (N, 32) uint8. A key may occur several
    times, with different pictures."""
    return scan_digests(cache, f"images/{teacher.name}/", ["image_key", "image_sha256"], check=True)


def feature_digests(cache: Cache, teacher: Source, encoder: Source) -> Iterator[list[np.ndarray]]:
    """Yield image_key and image_sha256, each (N, 32) uint8, of each feature shard. A key may occur several times, with
    different pictures."""
    folder = f"features/{teacher.name}/{encoder.name}/shards/"
    return (digests for _, digests in scan_digests(cache, folder, ["image_key", "image_sha256"]))


def picture_index(cache: Cache, teacher: Source) -> DigestIndex:
    """Return the index of the image keys that have a picture."""
    return digest_index(cache, f"images/{teacher.name}/", "image_key")


def prompt_index(cache: Cache, teacher: Source) -> DigestIndex:
    """Return the index of the keys of the prompts that have a picture."""
    return digest_index(cache, f"images/{teacher.name}/", "prompt_key")


def digest_index(cache: Cache, folder: str, column: str) -> DigestIndex:
    """Return the index of a column of digests of the live shards below a folder."""
    return index_digests(_joined([digests for _, (digests,) in scan_digests(cache, folder, [column])]))


def canonical_pictures(cache: Cache, teacher: Source) -> pa.Table:
    """Return where a teacher's pictures are, one row per key (PLACE_COLUMNS): of several pictures the canonical one,
    which has the smallest digest."""
    found = list(picture_digests(cache, teacher))
    keys = _joined([keys for _, (keys, _) in found])
    pictures = _joined([pictures for _, (_, pictures) in found])
    counts = [len(keys) for _, (keys, _) in found]
    names = pa.array([shard.path for shard, _ in found], pa.string())
    paths = np.repeat(np.arange(len(found), dtype=np.int32), counts)
    del found
    table = pa.table(
        [to_column(keys), to_column(pictures), pa.DictionaryArray.from_arrays(paths, names)], schema=PLACE_COLUMNS
    )
    if len(canonical_rows(keys)) == len(keys):
        return table
    return table.take(np.sort(canonical_rows(np.concatenate([keys, pictures], axis=1))))


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty((0, 32), np.uint8)
