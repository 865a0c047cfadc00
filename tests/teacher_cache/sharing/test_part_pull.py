"""A part of a cache: it opens and trains, says what it is a part of, and no build pays for what was left out."""

import json

import numpy as np
import pytest

from teacher_cache import (
    ArmadaError,
    Cache,
    CacheError,
    PullFilter,
    SpecError,
    build,
    choose,
    compact,
    export,
    merge,
    open_features,
    pull,
    push,
    status,
    verify,
)
from tests import fakes
from tests.teacher_cache.sharing.caches import PROMPTS, SMALL, built, costs_nothing

ENCODER = PullFilter(encoder="fake-encoder")


@pytest.fixture
def shared(tmp_path):
    """A cache in a store of another machine, with a second encoder and a second teacher."""
    source, url = built(tmp_path / "a"), f"memory://part-{tmp_path.name}"
    build(Cache(str(source)), PROMPTS[:6], fakes.teacher(), fakes.encoder(version="2"), SMALL)
    build(Cache(str(source)), ["other 1", "[refused] y"], fakes.teacher(style="round"), fakes.encoder(), SMALL)
    push(str(source), url)
    return url


def first_teacher(url):
    return next(teacher for teacher in Cache(url).teachers() if teacher.spec["style"] == "plain").name


def features_of(folder, prompts):
    cache = Cache(str(folder))
    teacher = next(teacher for teacher in cache.teachers() if teacher.spec["style"] == "plain")
    encoder = next(encoder for encoder in cache.encoders(teacher) if encoder.spec["version"] == "1")
    features = open_features(cache, teacher, encoder)
    return features.take(features.rows_of(prompts))


def test_pull_of_an_encoder_takes_no_pictures_trains_and_a_build_costs_nothing(tmp_path, shared):
    only = PullFilter(teacher=first_teacher(shared), encoder=fake_name(shared, "1"))
    counted = pull(shared, str(tmp_path / "b"), only, dry_run=True)
    assert not (tmp_path / "b").exists()
    done = pull(shared, str(tmp_path / "b"), only)
    assert (done.files_sent, done.bytes_sent, done.left_out) == (
        counted.files_sent,
        counted.bytes_sent,
        counted.left_out,
    )
    assert done.is_whole
    assert not list((tmp_path / "b").rglob("*.tar"))
    assert np.array_equal(features_of(tmp_path / "b", PROMPTS), features_of(tmp_path / "a", PROMPTS))
    assert costs_nothing(tmp_path / "b")
    assert verify(str(tmp_path / "b")).problems == []
    (found,) = status(Cache(str(tmp_path / "b")))
    assert (found.pictures, [encoder.features for encoder in found.encoders]) == (10, [10])
    facts = json.loads((tmp_path / "b" / "part.json").read_text())
    assert facts["of"] == shared
    assert len(facts["left_out"]) == done.left_out


def fake_name(url, version):
    cache = Cache(url)
    teacher = next(teacher for teacher in cache.teachers() if teacher.spec["style"] == "plain")
    return next(encoder.name for encoder in cache.encoders(teacher) if encoder.spec["version"] == version)


def test_pull_of_a_task_takes_the_shards_with_its_rows_and_a_build_of_it_costs_nothing(tmp_path, shared):
    wanted = PROMPTS[4:6]
    only = PullFilter(prompts=wanted, task="t")
    done = pull(shared, str(tmp_path / "b"), only)
    assert done.is_whole
    tars = list((tmp_path / "b").rglob("*.tar"))
    assert 0 < len(tars) < len(list((tmp_path / "a").rglob("*.tar")))
    assert np.array_equal(features_of(tmp_path / "b", wanted), features_of(tmp_path / "a", wanted))
    teacher, encoder = fakes.teacher(), fakes.encoder()
    build(Cache(str(tmp_path / "b")), wanted, teacher, encoder, SMALL)
    assert (teacher.calls, encoder.encoded) == ([], 0)
    assert verify(str(tmp_path / "b")).problems == []


def test_a_build_that_needs_what_a_pull_left_out_stops_before_it_pays(tmp_path, shared):
    pull(shared, str(tmp_path / "b"), PullFilter(prompts=PROMPTS[:2], task="t", teacher=first_teacher(shared)))
    for prompts, teacher, encoder in (
        ([*PROMPTS, "new"], fakes.teacher(), fakes.encoder()),  # features left out, and the pictures they are of
        (["other 1"], fakes.teacher(style="round"), fakes.encoder()),  # a teacher left out
        ([*PROMPTS, "new"], fakes.teacher(), fakes.encoder(version="3")),
    ):
        with pytest.raises(CacheError, match=r"left out of this copy on purpose.*armada cache pull memory://part"):
            build(Cache(str(tmp_path / "b")), prompts, teacher, encoder, SMALL)
        assert teacher.calls == []
    teacher = fakes.teacher()
    build(Cache(str(tmp_path / "b")), [*PROMPTS[:2], "new"], teacher, fakes.encoder(), SMALL)
    assert len(teacher.calls) == 1  # what is new is drawn


def test_what_was_built_in_a_part_is_pushed_and_nothing_else_is_touched(tmp_path, shared):
    expected = rows_of_first(shared)
    pull(shared, str(tmp_path / "b"), PullFilter(teacher=first_teacher(shared), encoder=fake_name(shared, "1")))
    build(Cache(str(tmp_path / "b")), ["new"], fakes.teacher(), fakes.encoder(), SMALL)
    done = push(str(tmp_path / "b"), shared)
    assert done.is_whole
    assert rows_of_first(shared).keys() > expected.keys()
    assert expected.items() <= rows_of_first(shared).items()
    assert verify(shared).problems == []


def rows_of_first(url):
    cache = Cache(url)
    teacher = next(teacher for teacher in cache.teachers() if teacher.spec["style"] == "plain")
    return dict(cache.images(teacher).select(["image_key", "image_sha256"]).to_pandas().to_numpy().tolist())


def test_push_of_a_part_to_a_new_place_holds_back_the_commits_that_would_lack_shards(tmp_path, shared):
    pull(shared, str(tmp_path / "b"), PullFilter(prompts=PROMPTS[:2], task="t"))
    url = f"memory://new-{tmp_path.name}"
    done = push(str(tmp_path / "b"), url)
    assert done.commits_held_back
    assert done.missing
    assert not Cache(url).state.missing
    assert verify(url).problems == []


def test_a_pull_of_the_rest_makes_a_part_whole(tmp_path, shared):
    pull(shared, str(tmp_path / "b"), encoder_of_first(shared))
    pull(shared, str(tmp_path / "b"), PullFilter(prompts=PROMPTS[:2], task="t", teacher=first_teacher(shared)))
    assert list((tmp_path / "b").rglob("*.tar"))
    assert costs_nothing(tmp_path / "b")
    assert pull(shared, str(tmp_path / "b")).is_whole
    assert not (tmp_path / "b" / "part.json").exists()
    assert verify(str(tmp_path / "b")).problems == []
    merge([Cache(str(tmp_path / "b"))], Cache(str(tmp_path / "c"), create=True))
    compact(Cache(str(tmp_path / "b")))
    assert costs_nothing(tmp_path / "b")


def encoder_of_first(url):
    return PullFilter(teacher=first_teacher(url), encoder=fake_name(url, "1"))


def test_a_pull_from_elsewhere_does_not_ask_for_what_was_left_out(tmp_path, shared):
    pull(shared, str(tmp_path / "b"), encoder_of_first(shared))
    built(tmp_path / "other", ["another prompt"])
    done = pull(str(tmp_path / "other"), str(tmp_path / "b"))
    assert done.is_whole
    assert (tmp_path / "b" / "part.json").exists()
    assert costs_nothing(tmp_path / "b", [*PROMPTS, "another prompt"])


def test_a_part_is_neither_compacted_nor_merged_nor_exported(tmp_path, shared):
    pull(shared, str(tmp_path / "b"), encoder_of_first(shared))
    cache = Cache(str(tmp_path / "b"))
    with pytest.raises(CacheError, match="has a part of a cache; compact the whole one"):
        compact(cache)
    with pytest.raises(CacheError, match="armada cache push"):
        merge([cache], Cache(str(tmp_path / "c"), create=True))
    with pytest.raises(CacheError, match="left out of this copy on purpose"):
        export(cache, str(tmp_path / "d"), "webdataset")


def test_pull_names_the_teachers_and_encoders_that_there_are(tmp_path, shared):
    with pytest.raises(SpecError, match=r"no-such.*expected one of: fake-"):
        pull(shared, str(tmp_path / "b"), PullFilter(teacher="no-such"))
    with pytest.raises(SpecError, match=r"--encoder no-such: expected one of: fake-encoder-"):
        pull(shared, str(tmp_path / "b"), PullFilter(encoder="no-such"))
    with pytest.raises(ArmadaError, match="into a folder of this machine"):
        pull(shared, f"memory://b-{tmp_path.name}", ENCODER)
    assert not (tmp_path / "b").exists()


def test_a_file_that_the_record_of_a_part_names_counts_as_soon_as_it_is_there(tmp_path, shared):
    pull(shared, str(tmp_path / "b"), encoder_of_first(shared))
    for tar in (tmp_path / "a").rglob("*.tar"):
        target = tmp_path / "b" / tar.relative_to(tmp_path / "a")
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_bytes(tar.read_bytes())
    teacher = choose(Cache(str(tmp_path / "b")), None, None)[0]
    assert not any(path.startswith(f"images/{teacher.name}/") for path in Cache(str(tmp_path / "b")).state.left_out)
    assert costs_nothing(tmp_path / "b")


def test_a_damaged_record_of_a_part_is_one_error(tmp_path, shared):
    pull(shared, str(tmp_path / "b"), encoder_of_first(shared))
    (tmp_path / "b" / "part.json").write_text("[1]")
    with pytest.raises(CacheError, match=r"part\.json: expected"):
        costs_nothing(tmp_path / "b")
