"""Shards: the immutable files of a cache, and their bytes. The same rows give the same bytes, and so the same digest.

Pictures stand in a WebDataset tar (`KEY.png`, `KEY.json`) beside an index in Parquet; features and failures in Parquet,
a feature as a fixed-size list, so that stock readers take them as they are. Nothing here unpickles.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from teacher_cache.errors import CacheError

IMAGE_COLUMNS = pa.schema(
    [
        ("image_key", pa.string()),
        ("prompt_key", pa.string()),
        ("prompt", pa.string()),
        ("sample", pa.int32()),
        ("image_sha256", pa.string()),
        ("suffix", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("cost_usd", pa.float64()),
        ("seconds", pa.float64()),
        ("attempts", pa.int32()),
    ]
)
FAILURE_COLUMNS = pa.schema(
    [
        ("image_key", pa.string()),
        ("prompt_key", pa.string()),
        ("prompt", pa.string()),
        ("sample", pa.int32()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("attempts", pa.int32()),
        ("cost_usd", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ImageRow:
    """What stands beside a picture in its tar."""

    image_key: str
    prompt_key: str
    prompt: str
    sample: int
    image_sha256: str
    suffix: str
    cost_usd: float | None
    seconds: float
    attempts: int


def write_images(path: Path, rows: Sequence[ImageRow], pictures: Iterable[bytes]) -> pa.Table:
    """Write a tar of pictures, one a row and in the rows' order, and return its index (IMAGE_COLUMNS).

    The index gives each picture's byte offset in the tar, read back from the file that was written.
    """
    import webdataset

    # `sorted` puts "json" before "png" and "webp", so the reader meets a row's facts first.
    with path.open("wb") as stream, webdataset.TarWriter(stream, encoder=False, mtime=0, user="", group="") as tar:
        for row, picture in zip(rows, pictures, strict=True):
            facts = {name: value for name, value in asdict(row).items() if name not in ("image_key", "suffix")}
            text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
            tar.write({"__key__": row.image_key, "json": text.encode("utf-8"), row.suffix: picture})
    with tarfile.open(path, "r:") as written:
        places = {
            member.name.partition(".")[0]: (member.offset_data, member.size)
            for member in written
            if not member.name.endswith(".json")
        }
    index = [{**asdict(row), "offset": places[row.image_key][0], "bytes": places[row.image_key][1]} for row in rows]
    return pa.Table.from_pylist(index, schema=IMAGE_COLUMNS)


def feature_schema(dimension: int, dtype: str, metadata: Mapping[str, str]) -> pa.Schema:
    """The columns of a feature shard; the metadata let a lone file explain itself."""
    value = {"float16": pa.float16(), "float32": pa.float32()}[dtype]
    return pa.schema(
        [
            ("image_key", pa.string()),
            ("image_sha256", pa.string()),
            ("prompt_key", pa.string()),
            ("sample", pa.int32()),
            ("feature", pa.list_(value, dimension)),
        ],
        metadata={name: str(text) for name, text in metadata.items()},
    )


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet: zstd; features plain and byte-stream split, without a dictionary or statistics."""
    leaf = "feature.list.element"
    has_feature = "feature" in table.column_names
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    parquet.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=16_384,
        use_dictionary=[name for name in strings if name in ("suffix", "reason")],
        use_byte_stream_split=[leaf] if has_feature else False,
        write_statistics=False,
    )


def read_table(stream: IO[bytes], name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read (some columns of) a Parquet shard. Raises CacheError naming the file where it can't be read."""
    try:
        return parquet.read_table(stream, columns=list(columns) if columns else None, use_threads=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise CacheError(f"{name}: no readable Parquet: {error}") from None


def feature_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A fixed-size list column as an (N, L) matrix, without a copy where it is one chunk."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], column.type)
    values: Any = array.flatten().to_numpy(zero_copy_only=False)
    matrix: np.ndarray = values.reshape(len(array), column.type.list_size)
    return matrix


def feature_column(features: np.ndarray, dtype: str) -> pa.Array:
    """An (N, L) matrix as a fixed-size list column of `dtype`."""
    flat = pa.array(np.ascontiguousarray(features, dtype=dtype).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
