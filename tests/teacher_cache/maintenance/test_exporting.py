"""An export holds the same rows, as a cache or as WebDataset samples, and stock libraries read both."""

from pathlib import Path

import numpy as np
import pytest

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    Cache,
    build,
    choose,
    compact,
    export,
    open_encoder,
    open_features,
    verify,
)
from tests.teacher_cache.maintenance.caches import PROMPTS, adapters, builds_for_free, rows_of
from tests.teacher_cache.reading.test_reader import expected


def samples_in(folder):
    """Return the samples of all tars below a folder, as the stock library reads them, by key."""
    import webdataset

    tars = [str(tar) for tar in sorted(Path(str(folder)).rglob("*.tar"))]
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("pil"))
    assert len({sample["__key__"] for sample in samples}) == len(samples)
    return {sample["json"]["prompt"]: sample for sample in samples}


def check_samples(folder, prompts):
    samples = samples_in(folder)
    assert sorted(samples) == sorted(prompts)
    for prompt, vector in zip(prompts, expected(prompts), strict=True):
        assert np.array_equal(samples[prompt]["npy"], vector)
        assert samples[prompt]["png"].size == (16, 16)


def test_a_build_in_format_webdataset_also_writes_each_picture_and_feature_once_as_samples(built, tmp_path):
    other = Cache(str(tmp_path / "wds"), create=True)
    options = BuildOptions(shard_rows=8, seal_rows=8, format="webdataset")
    report = build(other, [*PROMPTS, "(nan) x"], *adapters(), options)
    assert (report.encoded, report.features_refused) == (30, 1)
    with_feature = {key: row for key, row in rows_of(other).items() if row[1] is not None}
    assert with_feature == rows_of(built)
    check_samples(tmp_path / "wds" / "webdataset", PROMPTS)
    assert build(other, PROMPTS, *adapters(), options).calls == 0
    assert verify(other.store.url).problems == []


def test_samples_that_were_deleted_or_whose_shards_were_compacted_are_written_by_the_next_build(tmp_path):
    cache = Cache(str(tmp_path / "wds"), create=True)
    options = BuildOptions(shard_rows=8, seal_rows=8, format="webdataset")
    build(cache, PROMPTS, *adapters(), options)
    next((tmp_path / "wds" / "webdataset").rglob("*.tar")).unlink()
    build(cache, PROMPTS, *adapters(), options)
    check_samples(tmp_path / "wds" / "webdataset", PROMPTS)
    compact(cache)
    build(cache, PROMPTS, *adapters(), options)
    check_samples(tmp_path / "wds" / "webdataset", PROMPTS)


def test_an_export_as_samples_has_every_feature_and_is_not_written_twice(built, tmp_path):
    assert export(built, str(tmp_path / "samples"), "webdataset") == 30
    check_samples(tmp_path / "samples", PROMPTS)
    assert export(built, str(tmp_path / "samples"), "webdataset") == 0


def test_an_export_as_a_cache_has_the_same_rows_and_failures(built, tmp_path):
    build(built, [*PROMPTS, "[refused] x"], *adapters())
    other = Cache(str(tmp_path / "other"), create=True)
    assert export(built, other.store.url, "parquet") == 30
    assert rows_of(built) == rows_of(other)
    assert export(built, other.store.url, "parquet") == 0
    assert builds_for_free(other)
    assert build(other, ["[refused] x"], *adapters()).calls == 0


def test_an_unknown_format_is_refused(built, tmp_path):
    with pytest.raises(ArmadaError, match="expected one of parquet, webdataset, found 'csv'"):
        export(built, str(tmp_path / "o"), "csv")
    with pytest.raises(ArmadaError, match="--format: expected one of"):
        build(built, PROMPTS, *adapters(), BuildOptions(format="csv"))


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
