"""Encoding: stored pictures into feature shards. A killed encoding repeats at most one uncommitted shard, for free.

A feature with a NaN, an infinity or no length never reaches a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from teacher_cache.cache import Cache, Source, source_of
from teacher_cache.encoders import Encoder
from teacher_cache.errors import CacheError
from teacher_cache.keys import sha256
from teacher_cache.plan import features_to_encode
from teacher_cache.progress_bar import progress
from teacher_cache.shards import feature_column, feature_schema


def encode_missing(
    cache: Cache,
    drawer: Source,
    encoder: Encoder,
    keys: pa.Array,
    *,
    shard_rows: int,
    signature: Mapping[str, str],
    stop: Callable[[], bool] = lambda: False,
    dtype: str = "float16",
) -> tuple[int, int]:
    """Encode those of `keys` whose picture is at hand and whose feature isn't; a commit a shard.

    Returns how many features were written and how many refused.
    """
    reader = source_of(encoder.spec)
    missing = features_to_encode(cache, drawer, reader, keys, cache.images(drawer))
    written = refused = 0
    if not missing.num_rows:
        return 0, 0
    with progress(missing.num_rows, f"encoder {reader.spec.get('kind', '')}", "picture") as bar:
        for start in range(0, missing.num_rows, shard_rows):
            if stop():
                break
            rows = missing.slice(start, shard_rows)
            features = np.concatenate([part for part in _encode(cache, encoder, rows, bar.update)])
            rounded = features.astype(dtype)
            sound = np.isfinite(rounded).all(axis=1) & (rounded != 0).any(axis=1)
            refused += int((~sound).sum())
            written += int(sound.sum())
            if sound.any():
                _commit(cache, drawer, reader, rows.filter(pa.array(sound)), features[sound], dtype, signature)
    return written, refused


def _commit(
    cache: Cache,
    drawer: Source,
    reader: Source,
    rows: pa.Table,
    features: np.ndarray,
    dtype: str,
    signature: Mapping[str, str],
) -> None:
    order = pc.sort_indices(rows, sort_keys=[("image_key", "ascending")]).to_numpy()
    features = features[order]
    rows = rows.take(order)
    scale = np.abs(features).max(axis=1, keepdims=True)  # (N, 1)
    error = float((np.abs(features - features.astype(dtype).astype(np.float32)) / scale).max())
    metadata = {
        "armada.teacher": drawer.name,
        "armada.teacher_licence": str(drawer.facts.get("licence", "")),
        "armada.encoder": reader.name,
        "armada.dimension": str(features.shape[1]),
        "armada.max_rounding_error": f"{error:.3e} of a feature's largest number",
    }
    columns = [rows[name].combine_chunks() for name in ("image_key", "image_sha256", "prompt_key", "sample")]
    table = pa.table([*columns, feature_column(features, dtype)], feature_schema(features.shape[1], dtype, metadata))
    folder = f"features/{drawer.name}/{reader.name}/shards"
    cache.commit([cache.write_shard(folder, table)], **signature)


def _encode(cache: Cache, encoder: Encoder, rows: pa.Table, done: Callable[[int], object]) -> Iterator[np.ndarray]:
    pictures: list[bytes] = []
    prompts: list[str] = []
    for row, picture in zip(rows.select(["prompt"]).to_pylist(), read_pictures(cache, rows), strict=True):
        pictures.append(picture)
        prompts.append(row["prompt"])
        if len(pictures) == encoder.batch_size:
            yield _checked(encoder, pictures, prompts)
            done(len(pictures))
            pictures, prompts = [], []
    if pictures:
        yield _checked(encoder, pictures, prompts)
        done(len(pictures))


def _checked(encoder: Encoder, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
    features = encoder.encode(pictures, prompts)
    if features.shape != (len(pictures), encoder.dimension):
        expected = (len(pictures), encoder.dimension)
        raise CacheError(f"the encoder gave features of shape {features.shape}, expected {expected}; nothing written")
    return np.asarray(features, np.float32)


def read_pictures(cache: Cache, rows: pa.Table) -> Iterator[bytes]:
    """The pictures of index rows (`path`, `offset`, `bytes`, `image_sha256`), checked against their digest.

    Rows should be sorted by path: each tar is opened once. Raises CacheError for bytes that changed.
    """
    table = rows.select(["path", "offset", "bytes", "image_sha256", "image_key"]).to_pylist()
    start = 0
    while start < len(table):
        path = table[start]["path"]
        with cache.store.open(path) as stream:
            while start < len(table) and table[start]["path"] == path:
                row = table[start]
                stream.seek(row["offset"])
                picture = stream.read(row["bytes"])
                if sha256(picture) != row["image_sha256"]:
                    raise CacheError(
                        f"{cache.store}/{path}: the picture {row['image_key']} differs from its sha256; "
                        "move the file aside and run the build again, which fills the gap"
                    )
                yield picture
                start += 1
