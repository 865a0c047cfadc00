"""Writing: pictures as a tar with its index, features and failures as Parquet, and the commit that adds each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.errors import CacheError
from teacher_cache.format.columns import FEATURE_FACTS
from teacher_cache.format.commits import Entry, Shard, Spent
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.shards import ImageRow, feature_column, feature_schema, write_samples
from teacher_cache.format.sources import Source
from teacher_cache.keys import sha256
from teacher_cache.storage.cache import Cache


def commit_pictures(
    cache: Cache,
    teacher: Source,
    rows: Sequence[ImageRow],
    pictures: Iterable[bytes],
    provenance: Provenance,
    *,
    replaced: Iterable[Entry] = (),
    lost: Iterable[Entry] = (),
    spent: Iterable[Spent] = (),
) -> pa.Table:
    """Write and commit pictures, in the order of `rows`: one tar, its index and one commit.

    Return the index (IMAGE_COLUMNS and `path`, the tar's path). `replaced` and `lost` are entries of earlier commits
    that this one replaces, and `spent` what the calls have cost so far. Raise CacheError if a picture's bytes differ
    from the digest in its row.
    """
    with cache.store.together():
        with cache.store.draft() as draft:
            index, digest = write_samples(draft, rows, _checked(rows, pictures))
            tar = cache.add(draft, f"images/{teacher.name}/shards", ".tar", len(rows), digest)
        # The index comes after the tar, from which a repair can make it again if this process is killed here.
        tar = replace(tar, index=cache.write_shard(f"images/{teacher.name}/indexes", index))
        cache.commit([tar], replaced=replaced, lost=lost, spent=spent, **provenance.now())
    return index.append_column("path", pa.repeat(tar.path, index.num_rows))


def _checked(rows: Sequence[ImageRow], pictures: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pictures. Raise CacheError for one that is not the one that was stored with its row."""
    for row, picture in zip(rows, pictures, strict=True):
        if sha256(picture) != row.image_sha256:
            raise CacheError(f"the picture {row.image_key}.{row.suffix} differs from its sha256: it was damaged")
        yield picture


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


def commit_features(
    cache: Cache,
    teacher: Source,
    encoder: Source,
    rows: pa.Table,
    features: np.ndarray,
    provenance: Provenance,
    *,
    replaced: Iterable[Entry] = (),
    spent: Iterable[Spent] = (),
) -> Shard:
    """Write features (N, L) as one Parquet shard, sorted by key, commit it and return it.

    `rows` has the columns image_key, image_sha256, prompt_key and sample, in the order of `features`; `replaced` and
    `spent` are as in `commit_pictures`.
    """
    order = pc.sort_indices(rows["image_key"]).to_numpy()
    rows, features = rows.take(order), features[order]
    columns = [rows[name].combine_chunks() for name in FEATURE_FACTS.names]
    dtype = encoder.spec["dtype"]
    stored = features.astype(dtype)
    schema = feature_schema(features.shape[1], dtype, feature_metadata(teacher, encoder, features, stored))
    table = pa.table([*columns, feature_column(stored)], schema=schema)
    with cache.store.together():
        shard = cache.write_shard(f"features/{teacher.name}/{encoder.name}/shards", table)
        cache.commit([shard], replaced=replaced, spent=spent, **provenance.now())
    return shard


def commit_failures(
    cache: Cache,
    teacher: Source,
    failures: pa.Table,
    provenance: Provenance,
    *,
    replaced: Iterable[Entry] = (),
    spent: Iterable[Spent] = (),
) -> Shard:
    """Write failures (FAILURE_COLUMNS) as one Parquet shard, commit it and return it."""
    with cache.store.together():
        shard = cache.write_shard(f"failures/{teacher.name}", failures)
        cache.commit([shard], replaced=replaced, spent=spent, **provenance.now())
    return shard
