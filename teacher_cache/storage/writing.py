"""Writing: pictures as a tar with its index, samples (pictures and features in one tar), or features as Parquet.

The files of one call are committed together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.format.commits import Provenance, index_path
from teacher_cache.format.shards import ImageRow, feature_column, feature_schema, write_samples
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache import Cache

FORMATS = ("parquet", "webdataset")  # how features are stored: in Parquet, or beside their pictures in tars


def commit_pictures(
    cache: Cache,
    teacher: Source,
    rows: Sequence[ImageRow],
    pictures: Iterable[bytes],
    provenance: Provenance,
    replaced: Iterable[str] = (),
) -> pa.Table:
    """Write and commit pictures, in the order of `rows`.

    Return the index (IMAGE_COLUMNS and `path`, the tar's path).
    """
    return _commit_tar(cache, f"images/{teacher.name}/shards", rows, pictures, provenance, replaced=replaced)


def commit_samples(
    cache: Cache,
    teacher: Source,
    encoder: Source,
    rows: Sequence[ImageRow],
    pictures: Iterable[bytes],
    features: np.ndarray,
    provenance: Provenance,
) -> pa.Table:
    """Write and commit pictures with their features (N, L), in the order of `rows`.

    Return the index (IMAGE_COLUMNS and `path`, the tar's path).
    """
    stored = features.astype(encoder.spec["dtype"])
    metadata = feature_metadata(teacher, encoder, features, stored)
    folder = f"features/{teacher.name}/{encoder.name}/shards"
    return _commit_tar(cache, folder, rows, pictures, provenance, features=stored, metadata=metadata)


def _commit_tar(
    cache: Cache,
    folder: str,
    rows: Sequence[ImageRow],
    pictures: Iterable[bytes],
    provenance: Provenance,
    *,
    features: np.ndarray | None = None,
    metadata: Mapping[str, str] | None = None,
    replaced: Iterable[str] = (),
) -> pa.Table:
    with cache.store.draft() as draft:
        index = write_samples(draft, rows, pictures, features)
        tar = cache.add(draft, folder, ".tar", len(rows))
    written = cache.write_shard(folder, index.replace_schema_metadata(metadata), index_path(tar.path))
    cache.commit([tar, written], replaced=replaced, **provenance.now())
    return index.append_column("path", pa.repeat(tar.path, index.num_rows))


def feature_metadata(teacher: Source, encoder: Source, features: np.ndarray, stored: np.ndarray) -> dict[str, str]:
    """Return the metadata that describe a feature shard to readers of the single file.

    `stored` are the features (N, L) in the number type in which they are written. The rounding error is relative to a
    feature's largest number.
    """
    difference = stored.astype(np.float32)
    np.subtract(features, difference, out=difference)
    error = (_largest(difference) / _largest(features)).max()
    return {
        "armada.teacher": teacher.name,
        "armada.teacher_licence": str(teacher.facts.get("licence", "")),
        "armada.encoder": encoder.name,
        "armada.dimension": str(features.shape[1]),
        "armada.max_rounding_error": f"{error:.3e}",
    }


def _largest(features: np.ndarray) -> np.ndarray:
    """Return the largest absolute number of each row, (N,)."""
    largest: np.ndarray = np.maximum(features.max(axis=1), -features.min(axis=1))
    return largest


def image_rows(rows: pa.Table) -> list[ImageRow]:
    """Return the facts of index rows as they are stored beside the pictures."""
    names = list(ImageRow.__dataclass_fields__)
    return [ImageRow(**row) for row in rows.select(names).to_pylist()]


def commit_features(
    cache: Cache,
    teacher: Source,
    encoder: Source,
    rows: pa.Table,
    features: np.ndarray,
    provenance: Provenance,
    replaced: Iterable[str] = (),
) -> None:
    """Write features (N, L) as one Parquet shard, sorted by key, and commit it.

    `rows` has the columns image_key, image_sha256, prompt_key and sample, in the order of `features`.
    """
    order = pc.sort_indices(rows["image_key"]).to_numpy()
    rows, features = rows.take(order), features[order]
    columns = [rows[name].combine_chunks() for name in ("image_key", "image_sha256", "prompt_key", "sample")]
    dtype = encoder.spec["dtype"]
    stored = features.astype(dtype)
    schema = feature_schema(features.shape[1], dtype, feature_metadata(teacher, encoder, features, stored))
    table = pa.table([*columns, feature_column(stored)], schema=schema)
    shard = cache.write_shard(f"features/{teacher.name}/{encoder.name}/shards", table)
    cache.commit([shard], replaced=replaced, **provenance.now())
