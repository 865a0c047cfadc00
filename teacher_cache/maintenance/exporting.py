"""Export: write a cache again in the other format.

Pictures and features are copied, not drawn or encoded again. A killed export continues when it is run again.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.building.plan import has_feature
from teacher_cache.errors import ArmadaError
from teacher_cache.format.arrow import one_array
from teacher_cache.format.commits import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.reading.reader import open_features
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import write_card
from teacher_cache.storage.pictures import index_rows, read_pictures
from teacher_cache.storage.writing import FORMATS, commit_features, commit_pictures, commit_samples, image_rows


def export(cache: Cache, out: Cache, format: str, *, shard_rows: int = 8192) -> int:
    """Write all pictures and features of a cache that `out` lacks into `out`. Return the number of features written.

    Args:
        cache: The cache to read.
        out: The cache to write.
        format: "parquet" (features in Parquet, pictures in tars) or "webdataset" (both in tars of samples).
        shard_rows: The largest number of rows of a shard.

    Raise ArmadaError for another format, CacheError if `cache` is damaged.
    """
    if format not in FORMATS:
        raise ArmadaError(f"--to: expected one of {', '.join(FORMATS)}, found {format!r}")
    provenance = Provenance(time.time, f"export of {cache.store}")
    written = 0
    for teacher in cache.teachers():
        out.register(teacher)
        encoders = cache.encoders(teacher)
        for encoder in encoders:
            out.register(teacher, encoder)
            written += _export_features(cache, out, teacher, encoder, format, shard_rows, provenance)
        _export_pictures(cache, out, teacher, shard_rows, provenance)
    write_card(out)
    return written


def _export_features(
    cache: Cache, out: Cache, teacher: Source, encoder: Source, format: str, shard_rows: int, provenance: Provenance
) -> int:
    features = open_features(cache, teacher, encoder)
    images = cache.images(teacher, ["path"])
    images = images.filter(pa.array(features.rows_of_keys(images["image_key"]) >= 0))
    places = images.filter(pa.array(~has_feature(out, teacher, encoder, images)))
    with progress(places.num_rows, f"export {encoder.name}", "row") as bar:
        for part in index_rows(cache, places, shard_rows):
            vectors = features.take(features.rows_of_keys(part["image_key"])).astype(np.float32)
            if format == "webdataset":
                pictures = read_pictures(cache, part)
                commit_samples(out, teacher, encoder, image_rows(part), pictures, vectors, provenance)
            else:
                commit_features(out, teacher, encoder, part, vectors, provenance)
            bar.update(part.num_rows)
    return int(places.num_rows)


def _export_pictures(cache: Cache, out: Cache, teacher: Source, shard_rows: int, provenance: Provenance) -> None:
    """Write the pictures that `out` still lacks, which are those that none of its tars of samples contains."""
    images, existing = cache.images(teacher, ["path"]), out.images(teacher, [])
    places = images.filter(pc.invert(pc.is_in(images["image_key"], one_array(existing["image_key"]))))
    for part in index_rows(cache, places, shard_rows):
        commit_pictures(out, teacher, image_rows(part), read_pictures(cache, part), provenance)
