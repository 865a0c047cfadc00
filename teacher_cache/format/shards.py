"""Shards: the bytes of a cache's immutable files. The same rows give the same bytes and therefore the same digest.

Pictures are stored in a WebDataset tar (`KEY.png`, `KEY.json`) with an index in Parquet. Features and failures are
stored in Parquet, a feature as a fixed-size list, so that any Parquet reader can use them. Nothing is unpickled.
"""

from __future__ import annotations

import io
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
from teacher_cache.format.arrow import one_array

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
        ("feature_offset", pa.int64()),  # of the picture's .npy member; null if there is none
        ("feature_bytes", pa.int64()),
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
    """The facts about a picture, stored beside it in its tar. `seconds` is the duration of the call."""

    image_key: str
    prompt_key: str
    prompt: str
    sample: int
    image_sha256: str
    suffix: str
    cost_usd: float | None
    seconds: float
    attempts: int


def write_samples(
    path: Path, rows: Sequence[ImageRow], pictures: Iterable[bytes], features: np.ndarray | None = None
) -> pa.Table:
    """Write a tar of pictures, one per row and in the order of the rows.

    Each picture is stored with its facts (.json) and, if `features` (N, L) are given, its feature (.npy). Return the
    index (IMAGE_COLUMNS), with byte offsets read back from the written file.
    """
    import webdataset

    vectors: Iterable[np.ndarray | None] = features if features is not None else [None] * len(rows)
    # Members are sorted by name: json, npy, then the picture.
    with path.open("wb") as stream, webdataset.TarWriter(stream, encoder=False, mtime=0, user="", group="") as tar:
        for row, picture, vector in zip(rows, pictures, vectors, strict=True):
            facts = {name: value for name, value in asdict(row).items() if name not in ("image_key", "suffix")}
            sample = {"__key__": row.image_key, row.suffix: picture}
            sample["json"] = json.dumps(facts, sort_keys=True, ensure_ascii=False).encode("utf-8")
            if vector is not None:
                sample["npy"] = _npy(vector)
            tar.write(sample)
    return index_of(path, rows)


def index_of(path: Path, rows: Sequence[ImageRow] | None = None) -> pa.Table:
    """Return the index of a tar (IMAGE_COLUMNS). If `rows` are not given, their facts are read from the .json members.

    Raise CacheError if the tar can't be read to its end, or if `write_samples` did not write it.
    """
    places: dict[str, dict[str, tuple[int, int]]] = {}  # key -> suffix -> offset and size in bytes
    found: list[ImageRow] = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                places.setdefault(key, {})[suffix] = (member.offset_data, member.size)
                if suffix == "json" and rows is None:
                    facts = json.loads(tar.extractfile(member).read())  # type: ignore[union-attr]
                    found.append(ImageRow(image_key=key, suffix="", **facts))
    except (tarfile.TarError, ValueError, TypeError, OSError) as error:
        raise CacheError(f"{path}: no readable tar of samples: {error}") from None
    index = []
    for row in found if rows is None else rows:
        members = dict(places[row.image_key])
        members.pop("json", None)
        feature = members.pop("npy", (None, None))
        ((suffix, (offset, size)),) = members.items()
        index.append(
            {
                **asdict(row),
                "suffix": suffix,
                "offset": offset,
                "bytes": size,
                "feature_offset": feature[0],
                "feature_bytes": feature[1],
            }
        )
    return pa.Table.from_pylist(index, schema=IMAGE_COLUMNS)


def _npy(vector: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, vector, allow_pickle=False)
    return stream.getvalue()


def read_npy(data: bytes) -> np.ndarray:
    """Return the vector (L,) of the bytes of a .npy file, without unpickling."""
    vector: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    return vector


def feature_schema(dimension: int, dtype: str, metadata: Mapping[str, str]) -> pa.Schema:
    """Return the columns of a feature shard. The metadata describe the features to readers of a single file."""
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
    """Write a table as Parquet with zstd compression.

    Features are plainly encoded, without dictionary or statistics: DuckDB can't read a byte-stream split of float16.
    """
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    parquet.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=16_384,
        use_dictionary=[name for name in strings if name in ("suffix", "reason")],
        write_statistics=False,
        write_page_checksum=True,  # for readers of some columns, which do not compute the file's digest
    )


def read_table(stream: IO[bytes], name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return some or all columns of a Parquet shard. Raise CacheError, which names `name`, if it is unreadable."""
    try:
        names = list(columns) if columns else None
        return parquet.read_table(stream, columns=names, page_checksum_verification=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise CacheError(f"{name}: no readable Parquet: {error}") from None


def feature_matrix(column: pa.ChunkedArray) -> np.ndarray:
    """Return a fixed-size list column as an (N, L) matrix, without a copy if the column is one chunk."""
    array = one_array(column)
    values: Any = array.flatten().to_numpy(zero_copy_only=False)
    matrix: np.ndarray = values.reshape(len(array), column.type.list_size)
    return matrix


def feature_column(features: np.ndarray) -> pa.Array:
    """Return an (N, L) matrix as a fixed-size list column of the same number type."""
    flat = pa.array(np.ascontiguousarray(features).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, features.shape[1])


def is_sound(features: np.ndarray, dtype: str | None = None) -> np.ndarray:
    """Return which of (N, L) features are finite and not zero, as (N,) bool.

    `dtype` is the number type in which they are stored, by default their own.
    """
    rounded = features.astype(dtype or features.dtype, copy=False)
    sound: np.ndarray = np.isfinite(rounded).all(axis=1) & (rounded != 0).any(axis=1)
    return sound
