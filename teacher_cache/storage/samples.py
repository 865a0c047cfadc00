"""WebDataset samples: each picture with its facts and its feature in one tar, one tar per feature shard.

They are derived from the shards: no commit names them, and they may be deleted at any time.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.files.store import Store
from teacher_cache.format.arrow import one_array
from teacher_cache.format.commits import Shard
from teacher_cache.format.digests import from_column, from_hex, index_digests, same_at
from teacher_cache.format.shards import feature_matrix, write_samples
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import canonical_pictures
from teacher_cache.storage.pictures import image_rows, index_rows, read_pictures

FORMATS = ("parquet", "webdataset")  # what a build writes besides the pictures: features, or samples as well


def samples_folder(teacher: Source, encoder: Source) -> str:
    """Return the folder of a cache in which a build with `--format webdataset` writes samples."""
    return f"webdataset/{teacher.name}/{encoder.name}"


def write_sample_tar(cache: Cache, out: Store, path: str, rows: pa.Table, features: np.ndarray) -> None:
    """Write the samples of index rows (IMAGE_COLUMNS and `path`) with their features (N, L) as one tar into `out`."""
    with out.draft() as draft:
        write_samples(draft, image_rows(rows), read_pictures(cache, rows), features)
        out.publish(draft, path)


def write_missing_samples(cache: Cache, teacher: Source, encoder: Source, out: Store, folder: str) -> int:
    """Write the samples of each feature shard whose tar the folder of `out` lacks. Return the number of samples.

    Afterwards the tars of shards that no longer count are removed, so that the folder has each sample once.
    """
    there, expected, written = out.sizes(folder), set(), 0
    shards = cache.shards(f"features/{teacher.name}/{encoder.name}/shards/")
    names = {f"{shard.path.rpartition('/')[2].removesuffix('.parquet')}.tar": shard for shard in shards}
    images = None
    with progress(sum(shard.rows for shard in shards), f"samples {encoder.name}", "row") as bar:
        for name, shard in names.items():
            if name not in there:
                images = canonical_pictures(cache, teacher) if images is None else images
                written += _write_samples_of(cache, images, shard, out, f"{folder}/{name}")
            expected.add(name)
            bar.update(shard.rows)
    for name in there.keys() - expected:
        if name.endswith(".tar"):
            out.remove(f"{folder}/{name}")
    return written


def _write_samples_of(cache: Cache, images: pa.Table, shard: Shard, out: Store, path: str) -> int:
    table = cache.table(shard)
    keys, digests = (from_hex(table[name], shard.path) for name in ("image_key", "image_sha256"))
    place = index_digests(keys).find(from_column(images["image_key"]))
    is_here = same_at(digests, place, from_column(images["image_sha256"]))
    parts = list(index_rows(cache, images.filter(pa.array(is_here)), max(shard.rows, 1)))
    if not parts:
        return 0
    rows = pa.concat_tables(parts, promote_options="default")
    order = pc.index_in(rows["image_key"], one_array(table["image_key"])).to_numpy()
    write_sample_tar(cache, out, path, rows, feature_matrix(table["feature"])[order])
    return int(rows.num_rows)
