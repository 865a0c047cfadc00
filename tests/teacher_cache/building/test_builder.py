"""The build never requests a picture twice: not for a duplicate, in another order, after a stop, or past the budget."""

import numpy as np
import pyarrow.parquet as parquet
import pytest

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    Cache,
    CacheError,
    Provenance,
    build,
    choose,
    compact,
    index_rows,
    make_plan,
    make_requests,
    open_features,
    source_of_encoder,
    source_of_teacher,
    status,
)
from teacher_cache.building import spool_opening
from teacher_cache.building.sealing import seal
from teacher_cache.building.spool_opening import open_spool
from teacher_cache.format.pixels import picture_fault
from teacher_cache.storage.key_columns import canonical_pictures
from tests import fakes

PROMPTS = [f"prompt {i}" for i in range(23)]


def test_a_second_build_makes_no_calls(cache):
    teacher, encoder = fakes.teacher(), fakes.encoder()
    first = build(cache, PROMPTS, teacher, encoder)
    assert (first.calls, first.drawn, first.encoded, first.unique_prompts) == (23, 23, 23, 23)
    second = build(cache, PROMPTS, teacher, encoder)
    assert (second.calls, second.drawn, second.encoded) == (0, 0, 0)
    assert (second.pictures_at_hand, second.features_at_hand, second.calls_total) == (23, 23, 23)
    assert len(teacher.calls) == 23


def test_reversed_and_repeated_prompts_make_no_calls(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    teacher = fakes.teacher()
    report = build(cache, PROMPTS[::-1] + PROMPTS[:12], teacher, fakes.encoder())
    assert (report.rows, report.unique_prompts, report.calls, teacher.calls) == (35, 23, 0, [])


def test_duplicates_in_one_file_are_one_call(cache):
    teacher = fakes.teacher()
    report = build(cache, ["cafe\u0301", "caf\u00e9", "caf\u00e9"], teacher, fakes.encoder())
    assert (report.rows, report.unique_prompts, len(teacher.calls)) == (3, 1, 1)


def test_samples_are_different_pictures(cache):
    report = build(cache, PROMPTS[:3], fakes.teacher(), fakes.encoder(), BuildOptions(samples=2))
    assert report.calls == 6
    features = open_features(cache, *choose(cache, None, None))
    assert not set(features.rows_of(PROMPTS[:3], 0)) & set(features.rows_of(PROMPTS[:3], 1))


def test_another_teacher_setting_draws_new_pictures_and_another_encoder_makes_no_calls(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    assert build(cache, PROMPTS, fakes.teacher(style="bold"), fakes.encoder()).calls == 23
    teacher, encoder = fakes.teacher(), fakes.encoder(version="2")
    report = build(cache, PROMPTS, teacher, encoder)
    assert (report.calls, report.encoded, encoder.encoded, teacher.calls) == (0, 23, 23, [])


def test_shards_have_at_most_shard_rows_and_small_seals_lose_nothing(cache):
    options = BuildOptions(shard_rows=5, seal_rows=7)
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), options)
    teacher = source_of_teacher(fakes.teacher())
    shards = cache.shards(f"images/{teacher.name}/shards")
    assert max(shard.rows for shard in shards) <= 5
    assert cache.images(teacher).num_rows == 23


@pytest.mark.parametrize("most", [1, 2500, 1 << 30])
def test_shards_have_at_most_shard_bytes_of_pictures_in_builds_exports_and_compactions(cache, tmp_path, most):
    picture = len(fakes.png(0))  # about 830 bytes
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_bytes=most))
    teacher = source_of_teacher(fakes.teacher())

    def sizes(cache):
        tables = [table["bytes"].to_pylist() for _, table in cache.tables(f"images/{teacher.name}/")]
        assert sum(map(len, tables)) == len(PROMPTS)
        return [sum(table) for table in tables]

    assert all(size <= max(most, 2 * picture) for size in sizes(cache))
    assert max(sizes(cache)) >= min(most, 23 * picture) - 2 * picture  # and they are filled
    compact(cache, shard_bytes=100_000)
    assert len(sizes(cache)) <= 4  # of 23 tars, which have 10 KB each
    places = canonical_pictures(cache, teacher)
    parts = list(index_rows(cache, places, 1000, most))
    assert sum(part.num_rows for part in parts) == len(PROMPTS)
    assert all(part.num_rows == 1 or sum(part["bytes"].to_pylist()) <= most for part in parts)


def test_the_same_prompts_give_the_same_shards(tmp_path):
    names = []
    for name, prompts in (("a", PROMPTS), ("b", PROMPTS[::-1])):
        cache = Cache(str(tmp_path / name), create=True)
        clock = iter(range(10_000))
        build(cache, prompts, fakes.teacher(), fakes.encoder(), clock=lambda clock=clock: float(next(clock)))
        names.append([shard.sha256 for folder in ("images", "features") for shard in cache.shards(folder)])
    assert names[0] == names[1]


def test_failures_are_recorded_with_a_reason_and_not_requested_again(cache):
    prompts = ["fine", "[refused] a", "[transient] b", "[blank] c", "[undecodable] d", "[permanent] e"]
    report = build(cache, prompts, fakes.teacher(), fakes.encoder())
    assert report.failed == {"refused": 1, "transient": 1, "blank": 1, "undecodable": 1, "permanent": 1}
    assert (report.drawn, report.encoded) == (1, 1)
    teacher = fakes.teacher()
    again = build(cache, prompts, teacher, fakes.encoder())
    assert (again.calls, again.failed) == (0, report.failed)
    (state,) = status(cache)
    assert (state.failures, state.pictures, state.calls) == (report.failed, 1, 6)


def test_retry_repeats_the_chosen_reasons_only_and_counts_attempts(cache):
    prompts = ["[refused] a", "[transient] b"]
    build(cache, prompts, fakes.teacher(), fakes.encoder())
    teacher = fakes.teacher()
    build(cache, prompts, teacher, fakes.encoder(), BuildOptions(retry=("transient",)))
    assert len(teacher.calls) == 1
    failures = cache.failures(source_of_teacher(teacher)).to_pylist()
    assert {row["reason"]: row["attempts"] for row in failures} == {"refused": 1, "transient": 2}


def test_a_success_replaces_the_earlier_failure(cache, monkeypatch):
    build(cache, ["[transient] b"], fakes.teacher(), fakes.encoder())
    teacher = fakes.teacher()
    monkeypatch.setattr(
        teacher, "_answer", lambda request: fakes.Picture(request.image_key, fakes.png(1), "png", None, 0.1)
    )
    build(cache, ["[transient] b"], teacher, fakes.encoder(), BuildOptions(retry=("transient",)))
    (state,) = status(cache)
    assert (state.pictures, state.failures) == (1, {})


def test_a_failure_with_an_unknown_reason_stops_the_build(cache):
    with pytest.raises(ArmadaError, match="the reason 'moody'; expected one of transient"):
        build(cache, ["[moody] a"], fakes.teacher(), fakes.encoder())


def test_max_calls_counts_the_calls_of_earlier_builds(cache):
    for expected in (5, 0, 0):
        report = build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(max_calls=5))
        assert (report.calls, report.stopped) == (expected, "budget")
    assert build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(max_calls=8)).calls == 3


def test_spending_never_exceeds_the_budget(cache):
    report = build(cache, PROMPTS, fakes.teacher(price=0.04), fakes.encoder(), BuildOptions(budget_usd=0.30))
    assert (report.calls, report.stopped) == (7, "budget")
    assert report.cost_usd_total == pytest.approx(0.28)
    report = build(cache, PROMPTS, fakes.teacher(price=0.04), fakes.encoder(), BuildOptions(budget_usd=0.40))
    assert report.calls == 3
    assert report.cost_usd_total == pytest.approx(0.40)


def test_a_budget_in_dollars_requires_a_price(cache):
    with pytest.raises(ArmadaError, match="no known price"):
        build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(budget_usd=1.0))


def test_a_stopped_build_seals_its_pictures_and_the_next_one_continues(cache):
    teacher = fakes.teacher()
    report = build(cache, PROMPTS, teacher, fakes.encoder(), stop=lambda: len(teacher.calls) >= 9)
    assert (report.drawn, report.stopped) == (9, "interrupted")
    assert cache.images(source_of_teacher(teacher)).num_rows == 9
    assert build(cache, PROMPTS, fakes.teacher(), fakes.encoder()).calls == 14


def test_a_teacher_that_raises_loses_no_picture(cache, monkeypatch):
    teacher = fakes.teacher()
    answer_normally = teacher._answer

    def answer(request):
        if len(teacher.calls) > 6:
            raise RuntimeError("out of memory")
        return answer_normally(request)

    monkeypatch.setattr(teacher, "_answer", answer)
    with pytest.raises(RuntimeError, match="out of memory"):
        build(cache, PROMPTS, teacher, fakes.encoder())
    report = build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    assert (report.pictures_at_hand, report.calls, report.calls_total) == (6, 17, 24)


def test_nan_and_zero_features_are_not_written(cache):
    report = build(cache, ["fine", "(nan) a", "(zero) b"], fakes.teacher(), fakes.encoder())
    assert (report.encoded, report.features_refused) == (1, 2)
    assert open_features(cache, *choose(cache, None, None)).matrix.shape == (1, 8)


def test_a_wrong_dimension_writes_nothing(cache, monkeypatch):
    encoder = fakes.encoder()
    monkeypatch.setattr(encoder, "encode", lambda pictures, prompts: np.ones((len(pictures), 7), np.float32))
    with pytest.raises(ArmadaError, match=r"shape \(4, 7\), expected \(4, 8\); nothing was written"):
        build(cache, PROMPTS, fakes.teacher(), encoder)
    assert cache.shards("features") == []


def test_a_plan_makes_no_calls_and_writes_nothing(cache, tmp_path):
    teacher, encoder = fakes.teacher(), fakes.encoder()
    build(cache, PROMPTS[:10], teacher, encoder)
    before = sorted(tmp_path.rglob("*"))
    plan = make_plan(
        cache,
        source_of_teacher(teacher),
        source_of_encoder(encoder),
        make_requests(source_of_teacher(teacher), [*PROMPTS, PROMPTS[0]]),
    )
    assert (plan.requests.rows, plan.requests.unique_prompts, plan.pictures_at_hand, plan.features_at_hand) == (
        24,
        23,
        10,
        10,
    )
    assert plan.calls == 13
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cache_on_an_object_store_is_built_like_a_local_one(tmp_path):
    cache = Cache(f"memory://{tmp_path.name}", create=True)
    assert build(cache, PROMPTS, fakes.teacher(), fakes.encoder()).calls == 23
    assert build(cache, PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0
    assert open_features(cache, *choose(cache, None, None)).matrix.shape == (23, 8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (fakes.flat("white"), "blank"),
        (b"", "undecodable"),
        (b"<html>", "undecodable"),
        (fakes.png(1)[:60], "undecodable"),
    ],
)
def test_bytes_that_are_no_sound_picture_have_a_reason(data, reason):
    assert picture_fault(data)[0] == reason


def test_a_noise_picture_is_sound():
    assert picture_fault(fakes.png(1)) is None


def test_a_feature_shard_records_the_largest_rounding_error_and_the_licence(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    (shard,) = cache.shards("features")
    with cache.store.open(shard.path) as stream:
        metadata = parquet.read_schema(stream).metadata
    assert metadata[b"armada.teacher_licence"] == b"CC0"
    assert 0 < float(metadata[b"armada.max_rounding_error"].split()[0]) < 2**-10


def test_what_another_build_seals_between_the_opening_and_the_plan_is_not_requested_again(cache, monkeypatch):
    other = Cache(cache.store.url)

    def meanwhile(*words):
        monkeypatch.undo()
        build(other, PROMPTS, fakes.teacher(), fakes.encoder())

    monkeypatch.setattr(spool_opening, "adopt_moved_spools", meanwhile)
    assert build(cache, PROMPTS, fakes.teacher(), fakes.encoder()).calls == 0


def test_rows_that_another_build_has_sealed_but_not_deleted_are_not_sealed_again(cache, monkeypatch):
    teacher, stale = source_of_teacher(fakes.teacher()), Cache(cache.store.url)
    assert stale.shards() == []
    with monkeypatch.context() as patch:
        patch.setattr("teacher_cache.spool.spool.Spool.mark_sealed", lambda self, keys: None)
        build(cache, PROMPTS[:3], fakes.teacher(), fakes.encoder())
    before = Cache(cache.store.url).commits()
    with open_spool(stale) as spool:
        assert spool.unsealed() == {teacher.digest: 3}
        seal(stale, spool, teacher, BuildOptions(), Provenance(lambda: 0.0), again=True)
        assert spool.unsealed() == {}
    assert Cache(cache.store.url).commits() == before


def test_a_user_without_a_name_builds(cache, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nameless)
    build(cache, PROMPTS[:1], fakes.teacher(), fakes.encoder())
    assert cache.commits()[0].by.startswith("uid-")


def test_a_user_without_a_home_is_told_what_to_set(cache, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("pathlib.Path.home", homeless)
    with pytest.raises(CacheError, match="set HOME or XDG_STATE_HOME"):
        build(cache, PROMPTS[:1], fakes.teacher(), fakes.encoder())


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_cache_path_that_is_taken_is_refused_in_words(tmp_path, kind):
    path = tmp_path / "taken"
    if kind == "file":
        path.touch()
    else:
        path.symlink_to(tmp_path / "not-mounted" / "disk")
    with pytest.raises(CacheError, match=r"taken.*(Not a directory|which is not there)"):
        Cache(str(path), create=True)
