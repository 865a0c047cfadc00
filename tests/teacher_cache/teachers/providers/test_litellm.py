"""The litellm teacher against a stand-in of an OpenAI-compatible server: one call is one request and one row of the
ledger, whatever happens, and the key is in the environment only."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    MissingPackageError,
    SpecError,
    build,
    open_teacher,
    source_of_teacher,
)
from teacher_cache.building import retries
from teacher_cache.teachers import Picture, Request, rate_limit
from teacher_cache.teachers.http_errors import HopelessError
from teacher_cache.teachers.providers import litellm_images
from tests import fakes
from tests.teacher_cache.image_server import KEY, drawn, serving

pytest.importorskip("litellm")


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def open_at(server, more=""):
    return open_teacher(f"litellm:openai/tiny-image?base_url={server.url}&key_env=TEST_IMAGE_KEY&size=256x256{more}")


def draw(teacher, *prompts):
    return {answer.image_key: answer for answer in teacher.draw(Request(p, p, 0, 7) for p in prompts)}


def test_three_samples_of_a_prompt_differ_and_every_request_is_a_row_of_the_ledger(cache, capfd):
    with serving(lambda prompt, number: drawn(fakes.png(hash((prompt, number)) % 2**32))) as server:
        teacher = open_at(server, "&price=0.01&seed=true&body.num_inference_steps=4")
        report = build(cache, [f"prompt {n}" for n in range(5)], teacher, fakes.encoder(), BuildOptions(samples=3))
    assert (report.drawn, report.calls, report.cost_usd) == (15, 15, pytest.approx(0.15))
    assert server.requested.total() == 15
    pictures = cache.images(source_of_teacher(teacher), ["image_sha256"])["image_sha256"].to_pylist()
    assert len(set(pictures)) == 15
    assert {body["size"] for body in server.bodies} == {"256x256"}
    assert {body["num_inference_steps"] for body in server.bodies} == {4}
    assert len({body["seed"] for body in server.bodies}) == 15
    stored = [path.read_bytes() for path in Path(cache.store.url).rglob("*") if path.is_file()]
    assert not [text for text in stored if KEY.encode() in text]
    assert KEY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("action", ["500", "503", "429", "late", "cut off", "html"])
def test_a_call_that_fails_is_not_repeated_behind_the_ledgers_back(action):
    with serving(lambda prompt, number: action) as server:
        (answer,) = draw(open_at(server, "&timeout=1.0"), "a").values()
    assert server.requested == {"a": 1}
    assert answer.reason in ("transient", "undecodable")
    assert answer.turned_away == (action == "429")
    assert KEY not in answer.message


def test_refusals_and_hopeless_errors_are_told_from_the_providers_own_codes():
    def plan(prompt, number):
        return {"refused": "refused", "wrong key": "code 401 invalid_api_key"}.get(prompt, "ok")

    with serving(plan) as server:
        answers = draw(open_at(server), "refused", "a")
        assert answers["refused"].reason == "refused"
        assert isinstance(answers["a"], Picture)
        with pytest.raises(HopelessError, match="check the account, the key and the model") as caught:
            draw(open_at(server), "wrong key")
    assert KEY not in str(caught.value)


def test_a_picture_by_url_is_fetched_without_the_key():
    with serving(lambda prompt, number: "url") as server:
        assert isinstance(draw(open_at(server), "a")["a"], Picture)
    assert sorted(server.keys) == ["", f"Bearer {KEY}"]


def test_the_key_has_what_changes_a_picture_and_nothing_else():
    def digest(more):
        return source_of_teacher(open_teacher(f"litellm:openai/m?{more}")).digest

    plain = digest("size=512x512&body.a=1")
    for same in ("concurrency=64", "rpm=60", "timeout=9", "price=0.1", "max_mb=9", "licence=CC0", "key_env=X"):
        assert digest(f"size=512x512&body.a=1&{same}") == plain
    others = ["size=512x512&body.a=2", "body.a=1", "size=512x512&body.a=1&revision=2", "size=512x512&body.a=1&as=b"]
    assert len({plain, *map(digest, others)}) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("body.api_key=x", "looks like a secret"),
        ("body.num_retries=3", "it is an option of litellm, and not of the provider"),
        ("body.mock_response=x", "it is an option of litellm"),
        ("body.seed=1", "each picture has a seed of its own"),
        ("n=2", "one picture per call"),
    ],
)
def test_an_option_of_litellm_itself_is_refused(options, message):
    with pytest.raises(SpecError, match=message):
        open_teacher(f"litellm:openai/m?{options}")


def test_without_the_key_no_request_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_IMAGE_KEY")
    with serving() as server, pytest.raises(HopelessError, match="environment variable TEST_IMAGE_KEY is not set"):
        draw(open_at(server), "a")
    assert not server.requested


def test_without_the_package_the_error_has_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*litellm"):
        draw(open_teacher("litellm:openai/m"), "a")


def test_opening_the_teacher_imports_no_litellm_and_drawing_asks_the_network_for_no_table():
    code = "import sys, teacher_cache as t; t.open_teacher('litellm:openai/m'); print('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    litellm = litellm_images._litellm()
    assert json.dumps(litellm.model_cost)  # its own table, from the package
    assert litellm.num_retries is None
    assert not issubclass(MissingPackageError, SpecError)
    assert issubclass(HopelessError, ArmadaError)
