"""Samples: pictures written as a tar with its index, with or without features beside them, and committed together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from teacher_cache.cache import Cache
from teacher_cache.commits import index_path
from teacher_cache.shards import ImageRow, write_samples
from teacher_cache.signature import Signature
from teacher_cache.sources import Source


def commit_pictures(
    cache: Cache,
    teacher: Source,
    rows: Sequence[ImageRow],
    pictures: Iterable[bytes],
    signature: Signature,
    replaced: Iterable[str] = (),
) -> pa.Table:
    """Write and commit pictures. Returns the index with the tar's `path`."""
    return _commit_tar(cache, f"images/{teacher.name}/shards", rows, pictures, signature, replaced=replaced)


def commit_samples(
    cache: Cache,
    teacher: Source,
    reader: Source,
    rows: Sequence[ImageRow],
    pictures: Iterable[bytes],
    features: np.ndarray,
    signature: Signature,
) -> pa.Table:
    """Write and commit pictures and their features (N, L). Returns the index with the tar's `path`."""
    stored = features.astype(reader.spec["dtype"])
    metadata = feature_metadata(teacher, reader, features, stored)
    folder = f"features/{teacher.name}/{reader.name}/shards"
    return _commit_tar(cache, folder, rows, pictures, signature, features=stored, metadata=metadata)


def _commit_tar(
    cache: Cache,
    folder: str,
    rows: Sequence[ImageRow],
    pictures: Iterable[bytes],
    signature: Signature,
    *,
    features: np.ndarray | None = None,
    metadata: Mapping[str, str] | None = None,
    replaced: Iterable[str] = (),
) -> pa.Table:
    with cache.store.draft() as draft:
        index = write_samples(draft, rows, pictures, features)
        tar = cache.add(draft, folder, ".tar", len(rows))
    written = cache.write_shard(folder, index.replace_schema_metadata(metadata), index_path(tar.path))
    cache.commit([tar, written], replaced=replaced, **signature.now())
    return index.append_column("path", pa.repeat(tar.path, index.num_rows))


def feature_metadata(teacher: Source, reader: Source, features: np.ndarray, stored: np.ndarray) -> dict[str, str]:
    """What a lone shard says of itself. `stored` are the features (N, L) as they are written; the rounding error is
    relative to a feature's largest number."""
    difference = stored.astype(np.float32)
    np.subtract(features, difference, out=difference)
    error = (_largest(difference) / _largest(features)).max()
    return {
        "armada.teacher": teacher.name,
        "armada.teacher_licence": str(teacher.facts.get("licence", "")),
        "armada.encoder": reader.name,
        "armada.dimension": str(features.shape[1]),
        "armada.max_rounding_error": f"{error:.3e}",
    }


def _largest(features: np.ndarray) -> np.ndarray:
    """The largest absolute number of each row, (N,)."""
    largest: np.ndarray = np.maximum(features.max(axis=1), -features.min(axis=1))
    return largest


def image_rows(rows: pa.Table) -> list[ImageRow]:
    """The facts of index rows, as they stand beside a picture."""
    names = list(ImageRow.__dataclass_fields__)
    return [ImageRow(**row) for row in rows.select(names).to_pylist()]
