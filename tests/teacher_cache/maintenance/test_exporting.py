"""Both formats hold the same rows, an export converts one into the other, and stock libraries read them."""

from pathlib import Path

import numpy as np
import pytest

from teacher_cache import ArmadaError, BuildOptions, Cache, build, choose, export, open_encoder, open_features, verify
from teacher_cache.format.shards import index_of
from tests.teacher_cache.maintenance.caches import PROMPTS, adapters, builds_for_free, rows_of
from tests.teacher_cache.reading.test_reader import expected


def test_a_webdataset_cache_gives_the_same_rows_and_writes_each_picture_once(built, tmp_path):
    other = Cache(str(tmp_path / "wds"), create=True)
    options = BuildOptions(shard_rows=8, seal_rows=8, format="webdataset")
    report = build(other, [*PROMPTS, "(nan) x"], *adapters(), options)
    assert (report.encoded, report.features_refused) == (30, 1)
    with_feature = {key: row for key, row in rows_of(other).items() if row[1] is not None}
    assert with_feature == rows_of(built)
    tars = list(Path(str(other.store)).rglob("*.tar"))
    assert sum(index_of(tar).num_rows for tar in tars) == 31
    assert build(other, PROMPTS, *adapters(), options).calls == 0
    assert verify(other.store.url).problems == []


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_an_export_in_either_format_has_the_same_rows(built, tmp_path, format):
    other = Cache(str(tmp_path / "other"), create=True)
    assert export(built, other, format) == 30
    back = Cache(str(tmp_path / "back"), create=True)
    export(other, back, "parquet")
    assert rows_of(built) == rows_of(other) == rows_of(back)
    assert export(built, other, format) == 0
    assert builds_for_free(other)
    assert builds_for_free(back)


def test_an_unknown_format_is_refused(built, tmp_path):
    with pytest.raises(ArmadaError, match="expected one of parquet, webdataset, found 'csv'"):
        export(built, Cache(str(tmp_path / "o"), create=True), "csv")
    with pytest.raises(ArmadaError, match="--format: expected one of"):
        build(built, PROMPTS, *adapters(), BuildOptions(format="csv"))


def test_stock_webdataset_reads_picture_feature_and_prompt_together(tmp_path):
    import webdataset

    cache = Cache(str(tmp_path / "wds"), create=True)
    build(cache, PROMPTS[:5], *adapters(), BuildOptions(format="webdataset"))
    (tar,) = (tmp_path / "wds").glob("features/*/*/shards/*.tar")
    samples = list(webdataset.WebDataset(str(tar), shardshuffle=False).decode("pil"))
    assert len(samples) == 5
    for sample in samples:
        assert np.array_equal(sample["npy"], expected([sample["json"]["prompt"]])[0])
        assert sample["png"].size == (16, 16)


def test_stock_libraries_read_feature_shards(built):
    import duckdb
    import pandas
    from datasets import load_dataset

    pattern = f"{built.store}/features/*/*/shards/*.parquet"
    query = f"SELECT count(*), any_value(len(feature)) FROM '{pattern}'"
    assert duckdb.connect().execute(query).fetchall() == [(30, 8)]
    files = sorted(str(path) for path in Path(str(built.store)).glob("features/*/*/shards/*.parquet"))
    dataset = load_dataset("parquet", data_files=files, split="train", cache_dir=str(built.derived_folder / "hf"))
    frame = pandas.read_parquet(files[0])
    features = open_features(built, *choose(built, None, None))
    for read in (dataset[0], frame.iloc[0]):
        row = features.keys.to_pylist().index(read["image_key"])
        assert np.array_equal(np.asarray(read["feature"], np.float16), features.matrix[row])


def test_float32_features_belong_to_another_encoder_and_are_not_rounded(built):
    report = build(built, PROMPTS, adapters()[0], open_encoder("tests.fakes:FakeEncoder?dtype=float32"))
    assert (report.calls, report.encoded) == (0, 30)
    exact = next(e for e in built.encoders(built.teachers()[0]) if e.spec["dtype"] == "float32")
    features = open_features(built, built.teachers()[0], exact)
    assert features.matrix.dtype == np.float32
    assert np.array_equal(features.take(features.rows_of(PROMPTS)).astype(np.float16), expected(PROMPTS))


def test_an_unknown_number_type_is_refused():
    with pytest.raises(ArmadaError, match="option dtype expects one of float16, float32, found 'int8'"):
        open_encoder("tests.fakes:FakeEncoder?dtype=int8")
