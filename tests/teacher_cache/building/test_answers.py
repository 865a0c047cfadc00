"""A plug-in may answer oddly, twice or not at all: no traceback, no picture lost, and nothing is done only in name."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from teacher_cache import ArmadaError, BuildOptions, build, open_teacher, source_of_teacher, verify
from tests import fakes
from tests.teacher_cache import odd_teachers
from tests.teacher_cache.image_server import serving
from tests.teacher_cache.teachers.test_openai import KEY, open_at

PROMPTS = [f"prompt {i}" for i in range(6)]


def names_in_tars(cache):
    tars = Path(str(cache.store)).glob("images/*/shards/*.tar")
    return {name.partition(".")[2] for path in tars for name in tarfile.open(path).getnames()}


@pytest.mark.parametrize("suffix", ["PNG", ".png", "json", "exe", "../../x", "a/b", "", "p\0g", "cls", None])
def test_the_bytes_of_a_picture_decide_its_suffix_and_not_the_teacher(cache, suffix):
    report = build(cache, PROMPTS, odd_teachers.with_suffix(suffix), fakes.encoder())
    assert (report.drawn, report.encoded, report.failed) == (6, 6, {})
    assert names_in_tars(cache) == {"png", "json"}
    assert verify(str(cache.store)).problems == []


def test_of_two_answers_to_a_request_the_first_is_kept(cache, capfd):
    report = build(cache, PROMPTS, odd_teachers.twice(), fakes.encoder(), BuildOptions(seal_rows=2))
    assert (report.drawn, report.calls, report.failed) == (6, 6, {})
    digests = cache.images(source_of_teacher(fakes.teacher()), [])["image_sha256"].to_pylist()
    assert len(set(digests)) == 6
    assert capfd.readouterr().err.count("an answer to no request in flight is dropped") == 1


def test_an_answer_that_nobody_requested_is_dropped(cache):
    report = build(cache, PROMPTS, odd_teachers.of_strangers(), fakes.encoder())
    assert (report.drawn, report.failed) == (6, {})


def test_a_request_without_an_answer_is_a_failure_and_not_silently_missing(cache):
    report = build(cache, PROMPTS, odd_teachers.never(2), fakes.encoder())
    assert (report.drawn, report.calls, report.failed) == (5, 6, {"transient": 1})
    (row,) = cache.failures(source_of_teacher(fakes.teacher())).to_pylist()
    assert row["message"] == "the teacher gave no answer to this request"


def test_a_teacher_that_ends_early_is_asked_for_the_rest(cache):
    report = build(cache, PROMPTS, odd_teachers.Lazy(4), fakes.encoder())
    assert (report.drawn, report.calls, report.failed) == (6, 6, {})


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"data": "text"}, "expected a picture as bytes, found str"),
        ({"data": None}, "expected a picture as bytes, found NoneType"),
        ({"cost_usd": float("nan")}, "expected cost_usd .* found nan"),
        ({"cost_usd": -0.1}, "expected cost_usd .* found -0.1"),
        ({"seconds": None}, "expected seconds"),
    ],
)
def test_an_answer_that_cannot_be_one_is_an_error_in_words_that_names_the_teacher(cache, facts, message):
    with pytest.raises(ArmadaError, match=f"teacher fake: {message}"):
        build(cache, PROMPTS, odd_teachers.answers_with(**facts), fakes.encoder())


@pytest.mark.parametrize("answer", [None, "a picture", (1, 2)])
def test_an_answer_of_another_type_is_an_error_in_words(cache, answer):
    with pytest.raises(ArmadaError, match="expected a Picture or a Failure per request"):
        build(cache, PROMPTS, odd_teachers.Odd(lambda picture: [answer]), fakes.encoder())


def test_a_teacher_without_the_attributes_of_one_is_refused(monkeypatch):
    monkeypatch.delattr(fakes.FakeTeacher, "licence")
    with pytest.raises(ArmadaError, match="the teacher has no licence"):
        open_teacher("tests.fakes:FakeTeacher")


@pytest.mark.parametrize(("seed", "distinct", "advice"), [("auto", 3, ""), ("false", 1, "leave out seed=false")])
def test_a_server_with_a_fixed_seed_gets_seeds_with_samples_and_without_them_is_reported_while_the_build_runs(
    cache, capfd, monkeypatch, seed, distinct, advice
):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    with serving(lambda prompt, number: "fixed seed") as server:
        teacher = open_at(server, seed=seed)
        report = build(cache, ["a kite"], teacher, fakes.encoder(), BuildOptions(samples=3))
    assert report.drawn == 3
    digests = cache.images(source_of_teacher(teacher), [])["image_sha256"].to_pylist()
    assert len(set(digests)) == distinct
    reported = [line for line in capfd.readouterr().err.splitlines() if "the same picture came for samples" in line]
    assert len(reported) == (1 if advice else 0)
    assert all(advice in line for line in reported)


def test_a_first_sample_has_the_picture_and_the_key_that_it_has_without_samples(cache, monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    with serving() as server:
        build(cache, ["a kite"], open_at(server), fakes.encoder())
        assert "seed" not in server.bodies[0]
        report = build(cache, ["a kite"], open_at(server), fakes.encoder(), BuildOptions(samples=3))
        assert (report.pictures_at_hand, report.drawn) == (1, 2)
        assert len({body["seed"] for body in server.bodies[1:]}) == 2


def test_one_picture_for_different_prompts_is_reported_once(cache, capfd):
    same = odd_teachers.answers_with(data=fakes.png(3))
    build(cache, PROMPTS, same, fakes.encoder())
    assert capfd.readouterr().err.count("the same picture came for the prompts 'prompt 0' and 'prompt 1'") == 1


def test_a_picture_in_an_unknown_format_is_undecodable(cache):
    stream = io.BytesIO()
    Image.open(io.BytesIO(fakes.png(1))).save(stream, "PPM")
    report = build(cache, PROMPTS[:1], odd_teachers.answers_with(data=stream.getvalue()), fakes.encoder())
    assert report.failed == {"undecodable": 1}
