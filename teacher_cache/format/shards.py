"""Shards: the bytes of a cache's immutable files. The same rows give the same bytes and therefore the same digest.

Pictures are stored in a WebDataset tar (`KEY.png`, `KEY.json`) with an index in Parquet. All other rows are stored in
Parquet, a feature as a fixed-size list, so that any Parquet reader can use them.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.arrow import one_array
from teacher_cache.format.columns import DRAWN_PROMPT, FAILURE_COLUMNS, FEATURE_FACTS, IMAGE_COLUMNS, REWRITE_COLUMNS
from teacher_cache.format.tar_members import around, content_of
from teacher_cache.keys import sha256

_OPTIONAL = ("cost_usd", "seconds", "input_tokens", "output_tokens")  # columns in which a value may be missing
_FURTHER = ("feature", DRAWN_PROMPT.name)  # columns that a shard may have besides those of its schema
# What is raised for a tar that is damaged, or whose facts are of other types or sizes than a picture's.
_UNREADABLE = (
    *(tarfile.TarError, pa.ArrowException, ValueError, TypeError, KeyError, OSError),
    *(RecursionError, OverflowError, MemoryError),
)
_encoded = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageRow:
    """The facts about a picture, stored beside it in its tar. `seconds` is the duration of the call.

    `prompt` is the text of the row, by which training finds the picture, and `drawn_prompt` what the teacher was given
    in its place; it is stored only if the teacher has a recipe.
    """

    image_key: str
    prompt_key: str
    prompt: str
    sample: int
    image_sha256: str
    suffix: str
    cost_usd: float | None
    seconds: float
    attempts: int
    drawn_prompt: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what is stored beside the picture under its key."""
        hidden = ("image_key", "suffix", *(() if self.drawn_prompt else (DRAWN_PROMPT.name,)))
        return {name: value for name, value in vars(self).items() if name not in hidden}


def write_samples(
    path: Path, rows: Sequence[ImageRow], pictures: Iterable[bytes], features: np.ndarray | None = None
) -> tuple[pa.Table, str]:
    """Write a WebDataset tar, one sample per row and in the order of the rows. Return its index, as `index_of` does,
    and the SHA-256 of its bytes.

    A sample is a picture with its facts (.json) and, if `features` (N, L) are given, its feature (.npy).
    """
    vectors: Iterable[np.ndarray | None] = features if features is not None else [None] * len(rows)
    index: list[dict[str, Any]] = []
    digest = hashlib.sha256()
    with path.open("wb") as stream:
        for data in _tar_of(rows, pictures, vectors, index):
            stream.write(data)
            digest.update(data)
    return _index(index), digest.hexdigest()


def _tar_of(
    rows: Iterable[ImageRow],
    pictures: Iterable[bytes],
    vectors: Iterable[np.ndarray | None],
    index: list[dict[str, Any]],
) -> Iterator[bytes]:
    """Yield the bytes of a tar, sample by sample, and append the facts and the place of each picture to `index`."""
    size = 0
    for row, picture, vector in zip(rows, pictures, vectors, strict=True):
        sample = {"json": _encoded(row.facts()).encode("utf-8"), row.suffix: picture}
        if vector is not None:
            array = io.BytesIO()
            np.save(array, vector, allow_pickle=False)
            sample["npy"] = array.getvalue()
        members: list[bytes] = []
        for suffix in sorted(sample):
            head, tail = around(f"{row.image_key}.{suffix}", len(sample[suffix]))
            if suffix == row.suffix:
                index.append({**vars(row), "offset": size + len(head), "bytes": len(picture)})
            members += head, sample[suffix], tail
            size += len(head) + len(sample[suffix]) + len(tail)
        yield b"".join(members)
    end = bytes(2 * tarfile.BLOCKSIZE)
    yield end + bytes(-(size + len(end)) % tarfile.RECORDSIZE)


def index_of(path: Path) -> pa.Table:
    """Return the index of a tar of pictures (IMAGE_COLUMNS), in the order of the tar, from the .json members.

    Raise CacheError if the tar can't be read to its end, or if it is not as `write_samples` writes it: a picture has
    not the digest that its facts state, or a key has two pictures.
    """
    pictures: dict[str, dict[str, Any]] = {}  # by key; a picture's facts may come before it or after it
    facts: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                data = content_of(tar, member)
                key, _, suffix = member.name.partition(".")
                if not _KEY.fullmatch(key):
                    raise CacheError(f"{path}: expected files named by image keys, found {member.name!r}")
                if suffix == "json":
                    if key in facts:
                        raise CacheError(f"{path}: expected one {key}.json, found two")
                    facts[key] = {**vars(ImageRow(image_key=key, suffix="", **json.loads(data)))}
                    continue
                if key in pictures:
                    raise CacheError(f"{path}: expected one picture of the key {key}, found two")
                place = {"suffix": suffix, "offset": member.offset_data, "bytes": member.size}
                pictures[key] = place | {"image_sha256": sha256(data)}
        if pictures.keys() != facts.keys():
            raise CacheError(f"{path}: expected a picture for each of {len(facts)} keys, found {len(pictures)}")
        for key, picture in pictures.items():
            if picture["image_sha256"] != facts[key]["image_sha256"]:
                raise CacheError(f"{path}: the picture {key}.{picture['suffix']} differs from its sha256")
        return _index([facts[key] | picture for key, picture in pictures.items()])
    except _UNREADABLE as error:
        raise CacheError(f"{path}: no readable tar of pictures: {error!r}") from None


def _index(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    has_recipe = any(row[DRAWN_PROMPT.name] for row in rows)
    return pa.Table.from_pylist(rows, schema=IMAGE_COLUMNS.append(DRAWN_PROMPT) if has_recipe else IMAGE_COLUMNS)


def feature_schema(dimension: int, dtype: str, metadata: Mapping[str, str]) -> pa.Schema:
    """Return the columns of a feature shard. The metadata describe the features to readers of a single file."""
    schema = FEATURE_FACTS.append(pa.field("feature", feature_type(dimension, dtype)))
    return schema.with_metadata({name: str(text) for name, text in metadata.items()})


def feature_type(dimension: int, dtype: str) -> pa.DataType:
    """Return the type of the column of features, a fixed-size list."""
    return pa.list_({"float16": pa.float16(), "float32": pa.float32()}[dtype], dimension)


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


def schema_of(path: str) -> pa.Schema:
    """Return the columns that a Parquet file in this folder of a cache has at least."""
    schemas = {"images": IMAGE_COLUMNS, "features": FEATURE_FACTS, "failures": FAILURE_COLUMNS}
    return {**schemas, "rewrites": REWRITE_COLUMNS}[path.split("/")[0]]


def rows_in(file: parquet.ParquetFile) -> int:
    """Return the most rows that reading a Parquet file can give, as it states them: a few bytes can stand for billions,
    so that the number is compared before anything is read."""
    metadata = file.metadata
    groups = sum(max(0, metadata.row_group(number).num_rows) for number in range(metadata.num_row_groups))
    return int(max(groups, metadata.num_rows))


def read_table(
    stream: IO[bytes] | pa.BufferReader,
    name: str,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    rows: int | None = None,
) -> pa.Table:
    """Return some columns of a Parquet shard, without its metadata: by default those of the schema, and `feature` and
    `drawn_prompt` if it has them.

    Raise CacheError, which names `name`, if the file is unreadable, states another number of rows than `rows`, lacks a
    column of the schema, or has no value in a row that must have one.
    """
    try:
        file = parquet.ParquetFile(stream, page_checksum_verification=True)
        if rows is not None and (stated := rows_in(file)) != rows:
            raise CacheError(f"{name}: expected {rows} rows, found {stated}; {repair_hint()}")
        found = file.schema_arrow
        for field in [*schema, *([DRAWN_PROMPT] if DRAWN_PROMPT.name in found.names else [])]:
            types = [found.field(place).type for place in found.get_all_field_indices(field.name)]
            if types != [field.type]:
                text = ", ".join(map(str, types)) or "no such column"
                raise CacheError(f"{name}: expected a column {field.name} of type {field.type}, found {text}")
        names = list(columns or [*schema.names, *(name for name in found.names if name in _FURTHER)])
        if twice := [column for column in names if names.count(column) > 1]:
            raise CacheError(f"{name}: expected one column {twice[0]}, found several")
        table = file.read(names).replace_schema_metadata(None)
        if DRAWN_PROMPT.name in names and DRAWN_PROMPT.name not in table.column_names:
            table = table.append_column(DRAWN_PROMPT, pa.repeat("", table.num_rows))  # its teacher has no recipe
        table = table.select(names)
        if empty := [column for column in names if table[column].null_count and column not in _OPTIONAL]:
            raise CacheError(f"{name}: expected a value in each row of the column {empty[0]}")
        return table
    except (pa.ArrowException, ValueError, KeyError, OSError) as error:
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
