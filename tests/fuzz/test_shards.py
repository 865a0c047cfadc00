"""Tars and Parquet files that have their commit's digest, but a stranger's content, are read or refused."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from teacher_cache import CacheError
from teacher_cache.format.columns import FAILURE_COLUMNS, IMAGE_COLUMNS, REWRITE_COLUMNS
from teacher_cache.format.shards import (
    ImageRow,
    feature_column,
    feature_schema,
    index_of,
    read_table,
    write_samples,
    write_table,
)
from teacher_cache.keys import sha256
from teacher_cache.reading.feature_shard import FeatureShard, facts_of
from tests.fakes import png
from tests.fuzz.containers import odd_tar
from tests.fuzz.guard import guarded
from tests.fuzz.harness import fuzz
from tests.fuzz.mutations import damaged_bytes, damaged_end, damaged_start, other_json
from tests.fuzz.test_declared_files import from_file

PARQUET = (damaged_end, damaged_end, damaged_bytes, damaged_start)
KEYS = [sha256(f"key {number}".encode()) for number in range(4)]


@pytest.fixture(scope="module")
def tar(tmp_path_factory):
    """A tar of four pictures, and its index."""
    pictures = [png(number, 8) for number in range(4)]
    rows = [
        ImageRow(key, key, f"prompt é {key[:3]}", 0, sha256(picture), "png", 0.04, 1.5, 1)
        for key, picture in zip(KEYS, pictures, strict=True)
    ]
    path = tmp_path_factory.mktemp("shards") / "pictures.tar"
    index, _ = write_samples(path, rows, pictures)
    write_table(path.with_suffix(".parquet"), index)
    return path


def other_facts(random_numbers, data):
    """Change the facts of a picture, in the room that they have in the tar."""
    start = data.index(b'{"attempts"')
    end = data.index(b"}", start) + 1
    room = -(start - end) // -512 * 512
    facts = other_json(random_numbers, data[start:end])[:room]
    header = bytearray(data[start - 512 : start])
    header[124:135] = b"%011o" % len(facts)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return data[: start - 512] + bytes(header) + facts.ljust(room, b"\0") + data[start + room :]


def test_a_tar_of_pictures_is_read_or_refused(tar, tmp_path):
    damage = (odd_tar, odd_tar, other_facts, other_facts, damaged_bytes)
    fuzz("tar", [tar.read_bytes()], damage, from_file(index_of, tmp_path / "odd.tar"), tmp_path, count=400)


def features():
    facts = {"image_key": KEYS, "image_sha256": KEYS, "prompt_key": KEYS, "sample": pa.array([0] * 4, pa.int32())}
    column = feature_column(np.ones((4, 8), np.float16))
    return pa.table({**facts, "feature": column}, feature_schema(8, "float16", {"encoder": "x"}))


def odd_columns(random_numbers, table):
    """Return a table with a column of another type, without values, doubled or missing."""
    place = random_numbers.randrange(table.num_columns)
    name, rows = table.column_names[place], table.num_rows
    column = table[name]
    match random_numbers.randrange(7):
        case 0:
            return table.set_column(place, name, pa.nulls(rows, column.type))
        case 1:
            return table.append_column(name, column)
        case 2:
            return table.drop_columns(name)
        case 3:
            return table.set_column(place, name, pa.array([[1.0]] * rows))
        case 4 if pa.types.is_string(column.type):
            odd = random_numbers.choice((b"\xff\xfe", b"", b"../../escape", b"x" * 64, b"A" * 64, "é".encode() * 32))
            return table.set_column(place, name, pa.array([odd] * rows).view(pa.string()))
        case 5 if pa.types.is_integer(column.type):
            return table.set_column(place, name, pa.array([random_numbers.choice((-1, 2**31 - 1))] * rows, column.type))
        case _:
            return table.set_column(place, name, pa.DictionaryArray.from_arrays(pa.array([0] * rows), pa.array(["x"])))


@pytest.mark.parametrize("kind", ["images", "features", "failures", "rewrites"])
def test_a_parquet_shard_is_read_or_refused(tar, tmp_path, kind):
    schemas = {"images": IMAGE_COLUMNS, "failures": FAILURE_COLUMNS, "rewrites": REWRITE_COLUMNS, "features": None}
    schema = schemas[kind]
    if kind == "images":
        table = parquet.read_table(tar.with_suffix(".parquet"))
    elif schema is None:
        table = features()
    else:
        values = {pa.string(): "a" * 64, pa.int32(): 1, pa.int64(): 1, pa.float64(): 0.5}
        table = pa.Table.from_pylist([{field.name: values[field.type] for field in schema}] * 4, schema)

    def written(table):
        path = tmp_path / "shard.parquet"
        write_table(path, table)
        return path.read_bytes()

    def other_table(random_numbers, data):
        return written(odd_columns(random_numbers, table))

    def read(data):
        from teacher_cache.format.shards import schema_of

        read_table(io.BytesIO(data), "x", schema_of(f"{kind}/x"), rows=4)
        if kind in ("images", "features"):
            facts_of(data, "x", 4)
        if kind == "features":
            for _ in FeatureShard("x", (4, 8), np.dtype(np.float16), data).blocks():
                pass

    fuzz(f"{kind}.parquet", [written(table)], (*PARQUET, other_table, other_table), read, tmp_path)


def test_few_bytes_that_stand_for_very_many_rows_are_refused_before_they_are_read(tmp_path):
    """Four million rows of one text; the commit that names the file says four."""
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(4_000_000, np.int8)), pa.array(["a" * 200]))
    whole = {
        field.name: pa.repeat(pa.scalar(0, field.type), 4_000_000)
        for field in FAILURE_COLUMNS
        if field.type == pa.int32()
    }
    columns = {field.name: whole.get(field.name, texts) for field in FAILURE_COLUMNS}
    columns["cost_usd"] = pa.nulls(4_000_000, pa.float64())
    path = tmp_path / "bomb.parquet"
    schema = pa.schema(
        [
            (name, pa.dictionary(pa.int8(), pa.string()) if one is texts else FAILURE_COLUMNS.field(name).type)
            for name, one in columns.items()
        ]
    )
    parquet.write_table(pa.table(columns, schema), path, compression="zstd", store_schema=False)
    data = path.read_bytes()
    assert len(data) < 1_000_000
    with guarded(tmp_path, megabytes=100), pytest.raises(CacheError, match="expected 4 rows, found 4000000"):
        read_table(io.BytesIO(data), "x", FAILURE_COLUMNS, rows=4)
    facts = {"image_key": texts, "image_sha256": texts}
    parquet.write_table(pa.table(facts), path, compression="zstd", store_schema=False)
    with guarded(tmp_path, megabytes=100), pytest.raises(CacheError, match="expected 4 rows, found 4000000"):
        facts_of(path.read_bytes(), "x", 4)
