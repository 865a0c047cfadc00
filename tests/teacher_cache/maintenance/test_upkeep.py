"""Compaction, merging, export, retry and the card: rows move, none is lost, changed or paid for again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    Cache,
    CacheError,
    build,
    choose,
    compact,
    export,
    merge,
    open_encoder,
    open_features,
    open_teacher,
    retry,
    source_of_teacher,
    status,
    verify,
)
from tests import fakes
from tests.teacher_cache.reading.test_reader import expected

PROMPTS = [f"prompt {i}" for i in range(30)]
SMALL = BuildOptions(shard_rows=4, seal_rows=4)


def adapters(text="tests.fakes:FakeTeacher"):
    return open_teacher(text), open_encoder("tests.fakes:FakeEncoder")


@pytest.fixture
def built(cache):
    build(cache, PROMPTS, *adapters(), SMALL)
    return cache


def rows_of(cache):
    """Every row of a cache: key -> (picture's digest, feature's bytes)."""
    teacher, encoder = choose(cache, None, None)
    features = open_features(cache, teacher, encoder)
    images = {row["image_key"]: row["image_sha256"] for row in cache.images(teacher).to_pylist()}
    vectors = {key: features.take(np.array([place])).tobytes() for place, key in enumerate(features.keys.to_pylist())}
    return {key: (digest, vectors.get(key)) for key, digest in images.items()}


def asks_nothing(cache, prompts=PROMPTS):
    teacher, encoder = adapters()
    report = build(cache, prompts, teacher, encoder)
    return (report.calls, report.encoded) == (0, 0)


# Compaction


def test_compaction_makes_few_shards_of_many_and_changes_no_row(built):
    before = rows_of(built)
    done = compact(built)
    assert done.shards_before > done.shards_after == 3
    assert done.removed == 0
    assert rows_of(built) == before
    assert asks_nothing(built)
    assert verify(built.store.url).problems == []


def test_nothing_is_removed_without_vacuum_and_all_that_was_replaced_with_it(built):
    files = set(Path(str(built.store)).rglob("*.parquet")) | set(Path(str(built.store)).rglob("*.tar"))
    before = rows_of(built)
    compact(built)
    assert all(file.exists() for file in files)
    done = compact(built, vacuum=True)
    assert done.removed == len(files)
    assert not any(file.exists() for file in files)
    assert rows_of(built) == before
    assert verify(built.store.url).problems == []


def test_compacting_again_does_nothing(built):
    compact(built)
    commits = built.store.names("commits")
    compact(built)
    assert built.store.names("commits") == commits


def test_where_a_compacted_shard_is_lost_the_ones_it_stood_for_count_again(built):
    before = rows_of(built)
    compact(built)
    for shard in built.shards():
        built.store.remove(shard.path)
    again = Cache(built.store.url)
    assert rows_of(again) == before
    assert asks_nothing(again)


def test_a_shard_of_a_digest_that_was_replaced_and_vacuumed_lives_again(built):
    """Otherwise the same pictures would be drawn, sealed into the same shard and not seen, for ever."""
    compact(built, vacuum=True)
    for shard in built.shards():
        built.store.remove(shard.path)
    teacher, encoder = adapters()
    assert build(built, PROMPTS, teacher, encoder, SMALL).calls == 30
    assert asks_nothing(built)


def test_a_compacted_cache_keeps_a_views_digest(built):
    from distill.dataset.join import join
    from tests.distill.tiny import split

    rows = split(10)
    build(built, rows.prompts, *adapters(), SMALL)
    before = join(rows, built, open_features(built, *choose(built, None, None))).digest
    compact(built, vacuum=True)
    assert join(rows, built, open_features(built, *choose(built, None, None))).digest == before


# Merging


def test_merging_is_a_union_and_twice_is_once(tmp_path):
    caches = []
    for name, prompts in (("a", PROMPTS[:20]), ("b", PROMPTS[10:])):
        caches.append(Cache(str(tmp_path / name), create=True))
        build(caches[-1], prompts, *adapters(), SMALL)
    target = Cache(str(tmp_path / "target"), create=True)
    first = merge(caches, target)
    assert first.files > 0
    assert rows_of(target) == {**rows_of(caches[0]), **rows_of(caches[1])}
    assert asks_nothing(target)
    again = merge(caches, target)
    assert (again.files, again.commits) == (0, 0)


def test_merging_copies_a_compacted_cache_without_what_was_vacuumed(built, tmp_path):
    before = rows_of(built)
    compact(built, vacuum=True)
    target = Cache(str(tmp_path / "target"), create=True)
    assert merge([built], target).missing == []
    assert rows_of(target) == before
    assert verify(target.store.url).problems == []


def test_merging_a_damaged_cache_stops_at_the_file_and_counts_nothing_of_it(built, tmp_path):
    path = next(Path(str(built.store)).glob("features/*/*/shards/*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    target = Cache(str(tmp_path / "target"), create=True)
    with pytest.raises(CacheError, match=r"sha256 differs from the commit's; run .* there"):
        merge([built], target)
    assert target.shards() == []


def test_merging_names_a_missing_shard_and_copies_the_rest(built, tmp_path):
    shard = built.shards("features/")[0]
    built.store.remove(shard.path)
    target = Cache(str(tmp_path / "target"), create=True)
    assert merge([built], target).missing == [f"{built.store}/{shard.path}"]
    assert len(rows_of(target)) == 30


def test_merging_over_fsspec(built, tmp_path):
    target = Cache(f"memory://merge-{tmp_path.name}", create=True)
    merge([built], target)
    assert rows_of(target) == rows_of(built)


# Formats


def test_a_webdataset_cache_gives_the_same_rows_and_writes_each_picture_once(built, tmp_path):
    other = Cache(str(tmp_path / "wds"), create=True)
    options = BuildOptions(shard_rows=8, seal_rows=8, format="webdataset")
    report = build(other, [*PROMPTS, "(nan) x"], *adapters(), options)
    assert (report.encoded, report.features_refused) == (30, 1)
    del (mine := rows_of(other))[next(key for key, row in mine.items() if row[1] is None)]
    assert mine == rows_of(built)
    tars = list(Path(str(other.store)).rglob("*.tar"))
    assert sum(len(index_keys(tar)) for tar in tars) == 31
    assert build(other, PROMPTS, *adapters(), options).calls == 0
    assert verify(other.store.url).problems == []


def index_keys(tar):
    from teacher_cache.format.shards import index_of

    return index_of(tar)["image_key"].to_pylist()


@pytest.mark.parametrize("format", ["webdataset", "parquet"])
def test_export_turns_either_format_into_either(built, tmp_path, format):
    other = Cache(str(tmp_path / "other"), create=True)
    assert export(built, other, format) == 30
    back = Cache(str(tmp_path / "back"), create=True)
    export(other, back, "parquet")
    assert rows_of(built) == rows_of(other) == rows_of(back)
    assert export(built, other, format) == 0
    assert asks_nothing(other)
    assert asks_nothing(back)


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
    table = load_dataset("parquet", data_files=files, split="train", cache_dir=str(built.machine_folder / "hf"))
    frame = pandas.read_parquet(files[0])
    for source in (table[0], frame.iloc[0]):
        key = source["image_key"]
        place = open_features(built, *choose(built, None, None)).keys.to_pylist().index(key)
        stored = open_features(built, *choose(built, None, None)).matrix[place]
        assert np.array_equal(np.asarray(source["feature"], np.float16), stored)


def test_float32_features_are_another_encoder_and_lose_nothing(built):
    report = build(built, PROMPTS, adapters()[0], open_encoder("tests.fakes:FakeEncoder?dtype=float32"))
    assert (report.calls, report.encoded) == (0, 30)
    exact = next(e for e in built.encoders(built.teachers()[0]) if e.spec["dtype"] == "float32")
    features = open_features(built, built.teachers()[0], exact)
    assert features.matrix.dtype == np.float32
    assert np.array_equal(features.take(features.rows_of(PROMPTS)).astype(np.float16), expected(PROMPTS))


def test_an_unknown_number_type_is_refused():
    with pytest.raises(ArmadaError, match="option dtype expects one of float16, float32, found 'int8'"):
        open_encoder("tests.fakes:FakeEncoder?dtype=int8")


# Retry, card


def test_retry_asks_the_chosen_reasons_of_the_teacher_that_the_cache_names(cache, monkeypatch):
    prompts = ["fine", "[transient] a", "[transient] b", "[refused] c"]
    build(cache, prompts, *adapters())
    assert sum(report.calls for report in retry(cache, ["transient"])) == 2
    (state,) = status(cache)
    assert state.failures == {"transient": 2, "refused": 1}
    monkeypatch.setattr(
        fakes.FakeTeacher, "_answer", lambda self, r: fakes.Picture(r.image_key, fakes.png(r.seed), "png", None)
    )
    (report,) = retry(cache, ["transient", "refused"])
    assert (report.drawn, report.encoded) == (3, 3)
    (state,) = status(cache)
    assert (state.pictures, state.failures) == (4, {})
    assert retry(cache, ["transient", "refused"]) == []


def test_retry_refuses_an_unknown_reason_and_another_teacher(cache):
    build(cache, ["[transient] a"], *adapters())
    with pytest.raises(ArmadaError, match=r"--reason: expected one of transient, .* found 'bored'"):
        retry(cache, ["bored"])
    path = Path(str(cache.store)) / f"images/{source_of_teacher(adapters()[0]).name}/teacher.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "text": "tests.fakes:FakeTeacher?style=bold"}))
    with pytest.raises(ArmadaError, match="is now another teacher than fake-"):
        retry(Cache(str(cache.store)), ["transient"])


def test_the_card_is_a_dataset_card_that_says_where_all_comes_from(cache):
    options = BuildOptions(prompts="captions.jsonl")
    build(cache, PROMPTS, *adapters("tests.fakes:FakeTeacher?price=0.05"), options, clock=lambda: 1_700_000_000.0)
    text = (Path(str(cache.store)) / "README.md").read_text()
    _, front, body = text.split("---", 2)
    assert yaml.safe_load(front)["license_name"] == "CC0"
    for fact in ("captions.jsonl", "Pictures: 30", "1.50 USD", "2023-11-14", "8 numbers a feature, float16", "'style'"):
        assert fact in body, fact
    assert 0 < float(body.split("largest rounding error ")[1].split()[0]) < 2**-11 + 1e-6


def test_no_secret_of_the_environment_is_in_any_file(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    build(cache, [*PROMPTS, "[transient] x"], *adapters())
    shutil.copytree(str(cache.store), tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        assert not path.is_file() or b"sk-very-secret" not in path.read_bytes()
