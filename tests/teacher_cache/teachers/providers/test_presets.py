"""Presets of servers: each draws against a stand-in with its shape, its samples differ, and its key stays as it is."""

import contextlib
import os
import signal
import sqlite3
import time

import pytest

from teacher_cache import ArmadaError, BuildOptions, SpecError, build, open_teacher, source_of_teacher, status
from teacher_cache.building import retries
from teacher_cache.teachers import PRESETS, Failure, Picture, Request, rate_limit
from teacher_cache.teachers.http_errors import HopelessError
from teacher_cache.teachers.providers.presets import preset_of
from tests import fakes
from tests.faults.forked import start, wait
from tests.teacher_cache.image_server import KEY
from tests.teacher_cache.teachers.providers.provider_servers import SHAPES, standing

SPECS = {  # as a user writes them, less the address
    "vllm-omni": "vllm-omni:Qwen/Qwen-Image?size=512x512&body.num_inference_steps=20&body.true_cfg_scale=4.0",
    "sglang": "sglang:Qwen/Qwen-Image?size=512x512&body.num_inference_steps=20",
    "localai": "localai:flux.1-dev?size=512x512&body.step=20",
    "together": "together:black-forest-labs/FLUX.1-schnell?size=512x384&body.steps=4",
    "xai": "xai:grok-imagine-image-2.0?body.aspect_ratio=1:1&body.resolution=2k&quality=low",
    "azure": "azure:my-image?resource=ours&size=1024x1024&quality=low",
    "bfl": "bfl:flux-2-pro?size=1024x768&poll=0.01",
}


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def at(stand, name, more=""):
    """Return a preset's teacher at a stand-in, which takes the place of its address."""
    path = "" if name == "azure" else "/v1"
    return open_teacher(f"{SPECS[name]}&base_url={stand.url}{path}&key_env=TEST_IMAGE_KEY{more}")


def draw(teacher, *prompts):
    return {answer.image_key: answer for answer in teacher.draw(Request(p, p, 0, 7) for p in prompts)}


def test_every_preset_has_a_stand_in():
    assert set(PRESETS) == set(SHAPES) == set(SPECS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_draws_twenty_prompts_whose_three_samples_differ(name, cache):
    with standing(SHAPES[name]) as stand:
        teacher = at(stand, name)
        report = build(cache, [f"prompt {n}" for n in range(20)], teacher, fakes.encoder(), BuildOptions(samples=3))
    assert (report.drawn, report.calls, report.failed) == (60, 60, {})
    pictures = cache.images(source_of_teacher(teacher), ["image_sha256"])["image_sha256"].to_pylist()
    assert len(set(pictures)) == 60
    assert status(cache)[0].calls == len(stand.asked) == 60


@pytest.mark.parametrize("name", ["vllm-omni", "sglang", "localai", "together", "bfl"])
def test_a_server_that_takes_seeds_gets_each_pictures_own(name):
    with standing(SHAPES[name]) as stand:
        draw(at(stand, name), "a")
    assert [asked.body["seed"] for asked in stand.asked] == [7]
    assert at(stand, name).spec["seed"] == "from the image key"
    assert "seed" not in at(stand, name, "&seed=false").spec


def test_without_seeds_the_samples_of_sglang_would_be_one_picture():
    with standing(SHAPES["sglang"]) as stand:
        teacher = at(stand, "sglang", "&seed=false")
        first, second = teacher.draw(iter([Request("a", "x", 0, 1), Request("b", "x", 1, 2)]))
    assert first.data == second.data


@pytest.mark.parametrize("name", PRESETS)
def test_the_key_has_the_servers_name_and_no_address(name):
    digests = set()
    for url in ("http://a:8000", "https://b/v1"):
        teacher = open_teacher(f"{SPECS[name]}&base_url={url}")
        assert teacher.spec["server"] == ("azure/ours" if name == "azure" else name)
        digests.add(source_of_teacher(teacher).digest)
    digests.add(source_of_teacher(open_teacher(SPECS[name])).digest)
    assert len(digests) == 1


def test_a_preset_abbreviates_a_spec_of_openai():
    long = open_teacher(
        "openai:m?base_url=http://h:1/v1&as=vllm-omni&seed=true&response_format=b64_json&body.num_inference_steps=20"
    )
    short = open_teacher("vllm-omni:m?body.num_inference_steps=20")
    assert source_of_teacher(short).digest == source_of_teacher(long).digest


def test_keys_of_a_provider_are_sent_to_its_own_address_only(monkeypatch):
    variables = {"together": "TOGETHER_API_KEY", "xai": "XAI_API_KEY", "bfl": "BFL_API_KEY"}
    for name, variable in variables.items():
        assert open_teacher(f"{name}:m")._key_env == variable
        assert open_teacher(f"{name}:m?base_url=http://127.0.0.1:1/v1")._key_env == ""
    assert open_teacher("bfl:m?base_url=https://api.eu.bfl.ai/v1")._key_env == "BFL_API_KEY"
    assert open_teacher("bfl:m?base_url=https://api.notbfl.ai/v1")._key_env == ""
    assert preset_of("azure").key_env == "AZURE_OPENAI_API_KEY"


def test_a_request_without_a_key_is_told_how_to_name_one():
    with standing(SHAPES["together"]) as stand:
        teacher = open_teacher(f"{SPECS['together']}&base_url={stand.url}/v1")
        with pytest.raises(HopelessError, match=r"no API key was sent: .* with key_env=VARIABLE"):
            draw(teacher, "a")


def test_azures_deployment_is_in_the_path_and_its_version_in_the_query():
    with standing(SHAPES["azure"]) as stand:
        assert isinstance(draw(at(stand, "azure"), "a")["a"], Picture)
        with pytest.raises(HopelessError, match="HTTP 404 DeploymentNotFound"):
            draw(open_teacher(f"azure:other?resource=r&base_url={stand.url}&key_env=TEST_IMAGE_KEY"), "a")
    same, other = open_teacher("azure:m?resource=r"), open_teacher("azure:m?resource=r&api_version=2026-01-01")
    assert same.spec == other.spec
    assert open_teacher("azure:m?resource=s").spec != same.spec
    with pytest.raises(SpecError, match=r"expected azure:m\?resource=NAME"):
        open_teacher("azure:m")


def test_a_refused_a_failed_and_a_lost_task_of_bfl_are_their_rows_reasons():
    with standing(SHAPES["bfl"]) as stand:
        answers = draw(at(stand, "bfl", "&timeout=0.3"), "a", "moderated", "lost", "never")
    assert isinstance(answers["a"], Picture)
    assert {key: a.reason for key, a in answers.items() if isinstance(a, Failure)} == {
        "moderated": "refused",
        "lost": "transient",
        "never": "transient",
    }
    assert (answers["a"].cost_usd, answers["never"].cost_usd) == (0.03, 0.03)


@pytest.mark.faults
def test_a_task_that_a_killed_build_left_is_asked_for_in_place_of_a_new_call(cache, tmp_path):
    def run(seconds):
        teacher = at(stand, "bfl")
        teacher._poll_s = seconds
        return build(cache, ["a", "b"], teacher, fakes.encoder())

    def tasks():
        (file,) = list((tmp_path / "user-state").rglob("spool.sqlite")) or [tmp_path / "none"]
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as db,
        ):
            return db.execute("SELECT count(*) FROM tasks").fetchone()[0]
        return 0

    with standing(SHAPES["bfl"]) as stand:
        child = start(lambda: run(60))
        until = time.monotonic() + 60
        while tasks() < 2 and time.monotonic() < until:
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        assert wait(child) == -signal.SIGKILL
        report = run(0.01)
    assert (report.drawn, len(stand.asked), tasks()) == (2, 2, 0)
    (state,) = status(cache)
    assert (state.calls, state.cost_usd) == (4, pytest.approx(2 * at(stand, "bfl").price_usd))


@pytest.mark.parametrize(
    "url", ["http://203.0.113.1/v1/get_result?id=1", "https://bfl.ai.evil.example/x", "file:///x", 7]
)
def test_the_key_is_not_sent_to_an_address_that_a_task_names_elsewhere(url):
    def elsewhere(asked):
        return 200, {"id": "1", "polling_url": url}

    with standing(elsewhere) as stand:
        (answer,) = draw(at(stand, "bfl"), "a").values()
    assert answer.reason == "undecodable"
    assert "expected the address of a task" in answer.message
    assert not stand.paths


def test_xais_stated_cost_is_in_the_ledger(cache):
    with standing(SHAPES["xai"]) as stand:
        report = build(cache, ["a", "b"], at(stand, "xai"), fakes.encoder())
    assert report.cost_usd == pytest.approx(0.12)
    assert at(stand, "xai").price_usd == 0.06


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("xai:m?size=1024x1024", "xai takes no size; write body.aspect_ratio"),
        ("together:m?size=big", "option size expects WIDTHxHEIGHT"),
        ("together:m?body.width=512", "the teacher sets width itself; write size=WIDTHxHEIGHT"),
        ("bfl:m?n=2", "bfl draws one picture per call"),
        ("bfl:m?body.seed=1", "each picture has a seed of its own"),
        ("together:", "expected together:MODEL, for example together:black-forest-labs"),
        ("sglang:m?sise=1", "unknown option 'sise'; sglang knows"),
    ],
)
def test_the_error_for_an_option_that_a_server_does_not_take_says_what_to_write(spec, message):
    with pytest.raises(ArmadaError, match=message):
        open_teacher(spec)
