"""How a server is reached is no part of a picture's name, and a build that would draw again what is here says so."""

import pytest

from teacher_cache import (
    Cache,
    Source,
    build,
    make_plan,
    make_requests,
    open_teacher,
    redraw_notes,
    source_of_encoder,
    source_of_teacher,
    spec_digest,
)
from teacher_cache.registry.pretrained import Checkpoint, warn_unpinned
from tests import fakes
from tests.pipelines.cli import armada
from tests.teacher_cache.image_server import KEY, serving
from tests.teacher_cache.teachers.test_openai import open_at

PROMPTS = [f"prompt {i}" for i in range(4)]


def digest(text):
    return source_of_teacher(open_teacher(text)).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("openai:m?base_url=http://host:8000/v1", "openai:m?base_url=http://host:8000/v1&response_format=b64_json"),
        ("openai:m?base_url=http://host/v1", "openai:m?base_url=HTTP://HOST:80/v1/"),
        ("openai:m?base_url=https://host/v1", "openai:m?base_url=https://host:443/v1"),
        ("openai:m?as=flux&base_url=http://a:8000/v1", "openai:m?as=flux&base_url=http://b:9000/v1"),
        ("openai:m?base_url=http://old:8000/v1", "openai:m?base_url=http://new/v1&as=http://old:8000/v1"),
        ("openai:m?base_url=http://h/v1", "openai:m?base_url=http://h/v1&seed=false"),
    ],
)
def test_the_same_pictures_have_the_same_key_however_they_are_reached(one, other):
    assert digest(one) == digest(other)


def test_a_name_replaces_the_address_in_the_key():
    spec = open_teacher("openai:m?as=flux&base_url=http://a:8000/v1").spec
    assert (spec["server"], "endpoint" in spec) == ("flux", False)
    assert digest("openai:m?as=flux") != digest("openai:m?as=sdxl") != digest("openai:m")


def test_a_plan_and_a_build_at_another_address_name_the_option_that_uses_what_is_here(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    cache = Cache(str(tmp_path / "cache"), create=True)
    (tmp_path / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS))
    with serving() as old, serving() as new:
        build(cache, PROMPTS[:3], open_at(old), fakes.encoder())
        capfd.readouterr()
        build(cache, PROMPTS[:1], open_at(new), fakes.encoder())
        assert f"as={old.url}" in capfd.readouterr().err
        words = ("--encoder", "tests.fakes:FakeEncoder", "--cache", cache.store)
        for more, calls in (("", 3), (f"&as={old.url}", 1)):
            spec = f"openai:tiny-image?base_url={new.url}{more}"
            done = armada("cache", "plan", tmp_path / "prompts.txt", "--teacher", spec, *words)
            assert f"calls             {calls}" in done.stdout or f" {calls}\n" in done.stdout, done.stdout
            assert ("3 of the 4" in done.stderr or "2 of the 3" in done.stderr) == (not more), done.stderr
            assert (f"as={old.url}" in done.stderr) == (not more)
        monkeypatch.setattr(new, "plan", lambda prompt, number: "500")
        report = build(cache, PROMPTS[:3], open_at(new, **{"as": old.url}), fakes.encoder())
    assert (report.pictures_at_hand, report.calls) == (3, 0)


@pytest.mark.parametrize(
    ("drawn_by", "now", "advice"),
    [
        ({"server": "flux"}, {"endpoint": "http://h/v1"}, "write as=flux in the spec"),
        ({"endpoint": "http://h/v1"}, {"server": "flux"}, "write as=http://h/v1 in the spec"),
        ({"name": "old pictures"}, {"name": "new"}, "write name=old%20pictures in the spec"),
        ({"revision": "a" * 40}, {"revision": "b" * 40}, f"write revision={'a' * 40} in the spec"),
        ({}, {"revision": "2"}, "write no revision= in the spec"),
        ({"size": "1"}, {"size": "2"}, None),
        ({"endpoint": "http://h/v1", "size": "1"}, {"server": "flux", "size": "2"}, None),
    ],
)
def test_the_advice_sets_what_differs_and_is_given_only_for_the_same_teacher_elsewhere(cache, drawn_by, now, advice):
    teachers = []
    for facts in (drawn_by, now):
        teacher = fakes.teacher()
        teacher.spec = {"kind": "fake", **facts}
        teachers.append(teacher)
    build(cache, PROMPTS, teachers[0], fakes.encoder())
    build(cache, PROMPTS[:1], fakes.teacher(style="bold"), fakes.encoder())
    source = Source(teachers[1].spec, spec_digest(teachers[1].spec))
    plan = make_plan(cache, source, source_of_encoder(fakes.encoder()), make_requests(source, PROMPTS))
    notes = redraw_notes(cache, source, plan)
    assert (len(notes), all(note.endswith(advice or "") for note in notes)) == (1 if advice else 0, True)


def test_a_hub_model_without_a_commit_is_reported_once_with_its_commit(capfd):
    for revision in ("", "main", "", "0" * 40):
        warn_unpinned("diffusers:org/model", "org/model", revision, "c" * 40)
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(
        f"org/model is not pinned: its commit is {'c' * 40} now; add revision={'c' * 40}" in line for line in said
    )


def test_an_encoders_record_notes_the_commit_of_its_hub_model(tmp_path):
    folder = tmp_path / "hub" / "models--org--model" / "snapshots" / ("d" * 40) / "vae"
    encoder = fakes.encoder()
    encoder._checkpoint = Checkpoint(folder, ())
    assert source_of_encoder(encoder).facts["commit"] == "d" * 40
    encoder._checkpoint = Checkpoint(tmp_path, ())
    assert "commit" not in source_of_encoder(encoder).facts
