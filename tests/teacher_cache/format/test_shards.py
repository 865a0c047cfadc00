"""The bytes of shards are deterministic, and stock libraries read them without any code of armada."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image

from teacher_cache import CacheError
from teacher_cache.format.columns import FAILURE_COLUMNS
from teacher_cache.format.pixels import SUFFIXES
from teacher_cache.format.shards import (
    ImageRow,
    feature_column,
    feature_matrix,
    feature_schema,
    index_of,
    read_table,
    write_samples,
    write_table,
)
from teacher_cache.keys import sha256
from tests.fakes import png


def rows(count):
    keys = sorted(sha256(bytes([i])) for i in range(count))
    pictures = [png(i) for i in range(count)]
    facts = [
        ImageRow(key, sha256(b"p"), f"prompt {i} – é", 0, sha256(picture), "png", 0.04, 1.5, 1)
        for i, (key, picture) in enumerate(zip(keys, pictures, strict=True))
    ]
    return facts, pictures


def test_the_same_rows_give_the_same_bytes(tmp_path):
    facts, pictures = rows(5)
    for name in ("a", "b"):
        write_samples(tmp_path / f"{name}.tar", facts, pictures)
        write_table(tmp_path / f"{name}.parquet", index_of(tmp_path / f"{name}.tar"))
    for suffix in (".tar", ".parquet"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_a_tar_of_pictures_is_pinned_to_its_digest(tmp_path):
    row = ImageRow("ab" * 32, "cd" * 32, "a cat", 0, sha256(b"picture"), "png", None, 0.5, 1)
    _, digest = write_samples(tmp_path / "pinned.tar", [row], [b"picture"])
    assert digest == sha256((tmp_path / "pinned.tar").read_bytes())
    assert digest == "248f5c312b79946f9056d3487ffe13b6bd46e7428db9545eae8319d44d5326c3"


def test_the_index_has_the_offset_and_size_of_each_picture(tmp_path):
    facts, pictures = rows(7)
    written, _ = write_samples(tmp_path / "x.tar", facts, pictures)
    index = index_of(tmp_path / "x.tar").to_pylist()
    assert written.to_pylist() == index
    data = (tmp_path / "x.tar").read_bytes()
    assert [data[row["offset"] : row["offset"] + row["bytes"]] for row in index] == pictures


@pytest.mark.parametrize("suffix", SUFFIXES.values())
def test_a_tar_has_an_index_whatever_the_format_of_its_pictures(tmp_path, suffix):
    facts, pictures = rows(3)
    write_samples(tmp_path / "x.tar", [replace(row, suffix=suffix) for row in facts], pictures)
    index = index_of(tmp_path / "x.tar").to_pylist()
    assert [(row["image_key"], row["suffix"]) for row in index] == [(row.image_key, suffix) for row in facts]


def test_a_tar_with_two_pictures_of_one_key_is_an_error_that_names_the_key(tmp_path):
    facts, pictures = rows(2)
    write_samples(tmp_path / "x.tar", [facts[0], facts[0]], pictures[:1] * 2)
    with pytest.raises(CacheError, match=f"expected one {facts[0].image_key}.json, found two"):
        index_of(tmp_path / "x.tar")


def test_a_picture_that_has_not_the_digest_of_its_facts_is_an_error(tmp_path):
    facts, pictures = rows(2)
    write_samples(tmp_path / "x.tar", facts, pictures[::-1])
    with pytest.raises(CacheError, match="differs from its sha256"):
        index_of(tmp_path / "x.tar")


def test_a_table_without_a_column_of_its_folder_is_an_error_that_names_it(tmp_path):
    write_table(tmp_path / "x.parquet", pa.table({"image_key": [1]}))
    with (
        (tmp_path / "x.parquet").open("rb") as stream,
        pytest.raises(CacheError, match="a column image_key of type string"),
    ):
        read_table(stream, "x.parquet", FAILURE_COLUMNS)


def test_stock_webdataset_reads_pictures_and_facts(tmp_path):
    import webdataset

    facts, pictures = rows(3)
    write_samples(tmp_path / "x.tar", facts, pictures)
    samples = list(webdataset.WebDataset(str(tmp_path / "x.tar"), shardshuffle=False).decode("pil"))
    assert [sample["__key__"] for sample in samples] == [row.image_key for row in facts]
    assert samples[0]["json"]["prompt"] == "prompt 0 – é"
    assert np.array_equal(np.asarray(samples[0]["png"]), np.asarray(Image.open(io.BytesIO(pictures[0]))))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_features_are_read_as_they_were_written(tmp_path, dtype):
    features = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    keys = pa.array([sha256(bytes([i])) for i in range(6)])
    column = feature_column(features.astype(dtype))
    table = pa.table([keys, keys, keys, pa.array([0] * 6, pa.int32()), column], feature_schema(5, dtype, {"a": "b"}))
    write_table(tmp_path / "f.parquet", table)
    read = parquet.read_table(tmp_path / "f.parquet")
    assert np.array_equal(feature_matrix(read["feature"]), features.astype(dtype))
    assert read.schema.metadata[b"a"] == b"b"
    assert np.array_equal(
        np.stack(parquet.read_table(tmp_path / "f.parquet").to_pandas()["feature"]), features.astype(dtype)
    )
