"""Export: write the pictures and features of a cache again, as another cache or as WebDataset samples.

They are copied, not drawn or encoded again. A killed export continues when it is run again.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.building.plan import has_feature
from teacher_cache.errors import ArmadaError, not_one_of
from teacher_cache.files.store import Store
from teacher_cache.format.arrow import one_array
from teacher_cache.format.digests import from_column
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.progress_bar import progress
from teacher_cache.reading.reader import open_features
from teacher_cache.rewriting.rows import commit_rewrites, read_rewrites, register_rewriter, rewriters
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import write_card
from teacher_cache.storage.key_columns import canonical_pictures, picture_index
from teacher_cache.storage.pictures import image_rows, index_rows, read_pictures
from teacher_cache.storage.samples import FORMATS, write_missing_samples
from teacher_cache.storage.writing import commit_failures, commit_features, commit_pictures


def export(cache: Cache, url: str, format: str, *, shard_rows: int = 8192) -> int:
    """Write what a cache has into the folder or URL `url`, unless it is there. Return the number of features written.

    Args:
        cache: The cache to read.
        url: Where to write.
        format: "parquet" (a cache with the same rows, in shards of `shard_rows`) or "webdataset" (tars in
            `TEACHER/ENCODER/` with a sample per feature: the picture, its facts and the feature).
        shard_rows: The largest number of rows of a shard of a new cache.

    Raise ArmadaError for another format, CacheError if `cache` is damaged.
    """
    if format not in FORMATS:
        raise ArmadaError(f"--to: {not_one_of(FORMATS, format)}")
    cache.refresh()
    if format == "webdataset":
        return _export_samples(cache, Store(url))
    return _export_cache(cache, Cache(url, create=True), shard_rows)


def _export_samples(cache: Cache, out: Store) -> int:
    return sum(
        write_missing_samples(cache, teacher, encoder, out, f"{teacher.name}/{encoder.name}")
        for teacher in cache.teachers()
        for encoder in cache.encoders(teacher)
    )


def _export_cache(cache: Cache, out: Cache, shard_rows: int) -> int:
    provenance = Provenance(time.time, f"export of {cache.store}")
    written = 0
    for teacher in cache.teachers():
        out.register(teacher)
        _export_pictures(cache, out, teacher, shard_rows, provenance)
        for encoder in cache.encoders(teacher):
            out.register(teacher, encoder)
            written += _export_features(cache, out, teacher, encoder, shard_rows, provenance)
    for rewriter in rewriters(cache):
        register_rewriter(out, rewriter)
        rows, there = read_rewrites(cache, rewriter), read_rewrites(out, rewriter)
        rows = rows.filter(pc.invert(pc.is_in(rows["rewrite_key"], one_array(there["rewrite_key"]))))
        for start in range(0, rows.num_rows, shard_rows):
            commit_rewrites(out, rewriter, rows.slice(start, shard_rows), provenance)
    for source in [*cache.teachers(), *rewriters(cache)]:
        failures, known = cache.failures(source), out.failures(source)
        lacking = failures.filter(pc.invert(pc.is_in(failures["image_key"], one_array(known["image_key"]))))
        if lacking.num_rows:
            commit_failures(out, source, lacking, provenance)
    write_card(out)
    out.log.write_checkpoint()
    return written


def _export_features(
    cache: Cache, out: Cache, teacher: Source, encoder: Source, shard_rows: int, provenance: Provenance
) -> int:
    features = open_features(cache, teacher, encoder)
    images = canonical_pictures(cache, teacher)
    images = images.filter(pa.array(features.table.find(from_column(images["image_key"])) >= 0))
    places = images.filter(pa.array(~has_feature(out, teacher, encoder, images)))
    with progress(places.num_rows, f"export {encoder.name}", "row") as bar:
        for part in index_rows(cache, places, shard_rows):
            vectors = features.take(features.rows_of_keys(part["image_key"])).astype(np.float32)
            commit_features(out, teacher, encoder, part, vectors, provenance)
            bar.update(part.num_rows)
    return int(places.num_rows)


def _export_pictures(cache: Cache, out: Cache, teacher: Source, shard_rows: int, provenance: Provenance) -> None:
    """Write the pictures that `out` lacks."""
    images = canonical_pictures(cache, teacher)
    places = images.filter(pa.array(picture_index(out, teacher).find(from_column(images["image_key"])) < 0))
    for part in index_rows(cache, places, shard_rows):
        commit_pictures(out, teacher, image_rows(part), read_pictures(cache, part), provenance)
