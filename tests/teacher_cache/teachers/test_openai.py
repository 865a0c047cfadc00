"""The openai teacher with a real HTTP server that misbehaves: every prompt ends with a picture or a reason, every call
is counted, and the key appears only in requests.
"""

import itertools
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    Cache,
    build,
    make_plan,
    make_requests,
    open_teacher,
    source_of_encoder,
    source_of_teacher,
    status,
)
from teacher_cache.building import retries
from teacher_cache.teachers import Picture, Request, rate_limit
from teacher_cache.teachers.http_errors import HopelessError
from tests import fakes
from tests.teacher_cache.image_server import FAULTS, KEY, serving

PROMPTS = [f"prompt {i}" for i in range(6)]


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def open_at(server, **options):
    options = {"base_url": server.url, "key_env": "TEST_IMAGE_KEY", **options}
    return open_teacher("openai:tiny-image?" + "&".join(f"{name}={value}" for name, value in options.items()))


def draw(teacher, prompts, samples=1):
    requests = [Request(f"{prompt}/{k}", prompt, k, 12345) for prompt in prompts for k in range(samples)]
    return {answer.image_key: answer for answer in teacher.draw(iter(requests))}


def test_pictures_come_as_base64_or_by_url_and_the_key_is_sent_to_the_api_only():
    with serving(lambda prompt, number: "url" if prompt == "prompt 1" else "ok") as server:
        answers = draw(open_at(server, size="256x256", seed="true", concurrency=3), PROMPTS)
    assert all(isinstance(answer, Picture) and answer.suffix == "png" for answer in answers.values())
    assert len({answer.data for answer in answers.values()}) == len(PROMPTS)
    assert sorted(server.keys) == [""] + [f"Bearer {KEY}"] * 6
    assert all(
        (body["size"], body["seed"], body["model"]) == ("256x256", 12345, "tiny-image") for body in server.bodies
    )


def test_samples_of_a_prompt_share_a_call_where_the_server_takes_n():
    with serving(lambda prompt, number: "too few" if (prompt, number) == ("prompt 2", 1) else "ok") as server:
        answers = draw(open_at(server, n=2, price="0.1", concurrency=1), PROMPTS[:3], samples=3)
    assert server.requested == {"prompt 0": 2, "prompt 1": 2, "prompt 2": 2}  # two and one
    lacking = answers["prompt 2/1"]
    assert (lacking.reason, lacking.cost_usd, lacking.retry_after_s) == ("transient", 0.0, 0.0)
    assert sum(isinstance(answer, Picture) for answer in answers.values()) == 8
    assert len({answer.data for answer in answers.values() if isinstance(answer, Picture)}) >= 5


def test_a_paid_picture_whose_download_fails_is_downloaded_again_and_not_requested_again():
    def plan(prompt, number):
        return {"prompt 0": "url flaky", "prompt 1": "url gone"}.get(prompt, "ok").replace(" ", "-")

    with serving(plan) as server:
        answers = draw(open_at(server, price="0.1"), PROMPTS[:3])
    assert set(server.requested.values()) == {1}
    assert isinstance(answers["prompt 0/0"], Picture)
    assert (answers["prompt 1/0"].reason, answers["prompt 1/0"].cost_usd) == ("transient", 0.1)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_prompt_ends_with_a_picture_or_a_reason_whatever_the_server_does(tmp_path, capfd, seed):
    """Each prompt meets up to two faults, some of them at every attempt; then the failures are retried on a sound
    server."""
    chance = random.Random(seed)
    prompts = [f"prompt {i} {fault}" for i, fault in enumerate(FAULTS * 3)]
    actions = {}  # of the server, by prompt; the last one is repeated
    for prompt in prompts:
        first = next(fault for fault in sorted(FAULTS, key=len, reverse=True) if prompt.endswith(fault))
        actions[prompt] = [first, *chance.sample(FAULTS, chance.randint(0, 1)), *["ok"] * chance.choice([0, 9])]
        if "429" in actions[prompt][-1]:  # a limit ends
            actions[prompt].append("ok")
    server_is_sound, turned_away = False, Counter()

    def plan(prompt, number):
        action = "ok" if server_is_sound else actions[prompt][min(number, len(actions[prompt])) - 1]
        turned_away[prompt] += "429" in action
        return action

    cache = Cache(str(tmp_path / "cache"), create=True)
    with serving(plan) as server:
        teacher = open_at(server, concurrency=13, timeout="2.0", max_mb=1, price="0.01")
        started = time.monotonic()
        report = build(cache, prompts, teacher, fakes.encoder(), BuildOptions(attempts=3, budget_usd=100))
        assert time.monotonic() - started < 90
        assert report.stopped == ""
        assert report.drawn + sum(report.failed.values()) == len(prompts)
        assert set(report.failed) <= {"transient", "permanent", "refused", "undecodable"}
        assert report.calls == sum((server.requested - turned_away).values())
        assert max((server.requested - turned_away).values()) <= 3
        assert {"refused", "undecodable", "permanent"} <= set(report.failed)
        before = sum(server.requested.values())
        server_is_sound = True
        again = retry_with(cache, open_at(server, concurrency=13, price="0.01"))
        assert sum(server.requested.values()) - before == report.failed.get("transient", 0) == again.drawn
        (state,) = status(cache)
        assert state.failures == {name: n for name, n in report.failed.items() if name != "transient"}
        assert state.calls == sum((server.requested - turned_away).values())
        assert 0 < state.cost_usd <= 0.01 * state.calls
    printed = "".join(capfd.readouterr())
    assert KEY not in printed
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def retry_with(cache, teacher):
    """Do what `retry` does, with an open teacher and a fake encoder, which has no spec to open it by."""
    prompts = [row["prompt"] for row in cache.failures(source_of_teacher(teacher)).to_pylist()]
    return build(cache, prompts, teacher, fakes.encoder(), BuildOptions(retry=("transient",)))


def test_a_request_whose_reply_is_late_is_repeated_and_both_calls_count_as_paid(cache):
    with serving(lambda prompt, number: "late" if number == 1 else "ok") as server:
        teacher = open_at(server, timeout="2.0", price="0.1")
        report = build(cache, PROMPTS[:2], teacher, fakes.encoder())
    assert (report.drawn, report.calls, report.cost_usd) == (2, 4, 0.4)


def test_errors_are_not_billed(cache):
    with serving(lambda prompt, number: "500" if number < 3 else "ok") as server:
        report = build(cache, PROMPTS[:2], open_at(server, price="0.1"), fakes.encoder())
    assert (report.drawn, report.calls, report.cost_usd) == (2, 6, 0.2)


def test_after_a_429_no_thread_sends_until_the_pause_is_over():
    with serving(
        lambda prompt, number: "429 with Retry-After" if (prompt, number) == ("prompt 0", 1) else "ok"
    ) as server:
        answers = draw(open_at(server, concurrency=2), [f"prompt {i}" for i in range(12)])
    assert answers["prompt 0/0"].reason == "transient"
    assert answers["prompt 0/0"].retry_after_s == pytest.approx(0.2)
    times = sorted(server.times)
    assert max(b - a for a, b in itertools.pairwise(times)) >= 0.15


@pytest.mark.parametrize(
    "action", ["code 401 invalid_api_key", "code 404 model_not_found", "code 429 insufficient_quota"]
)
def test_an_error_that_concerns_every_request_stops_the_build_which_keeps_its_pictures(cache, action, capfd):
    with serving(lambda prompt, number: action if prompt == "prompt 3" else "ok") as server:
        with pytest.raises(ArmadaError, match=r"HTTP 4.. .*run the same command again") as caught:
            build(cache, PROMPTS, open_at(server, concurrency=1, price="0.1"), fakes.encoder())
        assert KEY not in str(caught.value)
        (state,) = status(cache)
        assert (state.pictures, state.in_flight, state.failures, state.cost_usd) == (3, 0, {}, 0.3)
        server.plan = lambda prompt, number: "ok"
        report = build(cache, PROMPTS, open_at(server, concurrency=1), fakes.encoder())
    assert (report.drawn, report.calls) == (3, 3)


def test_a_server_that_asks_to_wait_for_a_day_stops_the_build(cache):
    with serving(lambda prompt, number: "a day") as server, pytest.raises(ArmadaError, match="asks to wait 86400 s"):
        build(cache, PROMPTS, open_at(server), fakes.encoder())


def test_a_dead_server_stops_the_build_instead_of_failing_every_prompt(cache):
    with serving() as server:
        teacher = open_at(server, concurrency=2)
    with pytest.raises(ArmadaError, match=r"3\d calls in a row failed, the last one with: no connection"):
        build(cache, [f"prompt {i}" for i in range(200)], teacher, fakes.encoder())
    (state,) = status(cache)
    assert (state.failures, state.in_flight) == ({}, 0)


def test_without_the_key_no_request_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_IMAGE_KEY")
    with serving() as server, pytest.raises(HopelessError, match="environment variable TEST_IMAGE_KEY is not set"):
        draw(open_at(server), PROMPTS)
    assert not server.requested


def test_the_key_of_openai_is_sent_to_openai_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as server:
        draw(open_at(server, key_env=""), PROMPTS[:1])
    assert server.keys == [""]
    assert open_teacher("openai:gpt-image-1")._key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize(("seconds", "ready"), [(0.0, 2), (0.3, 0)])
def test_a_quick_server_finds_some_calls_ready_and_a_slow_one_none(seconds, ready):
    open_calls, most = 0, 0

    def requests():
        nonlocal open_calls, most
        for number in range(64):
            open_calls += 1
            most = max(most, open_calls)
            yield Request(f"{number}", f"{number}", 0, 1)

    def plan(prompt, number):
        time.sleep(seconds)
        return "ok"

    with serving(plan) as server:
        for _answer in open_at(server, concurrency=16).draw(requests()):
            open_calls -= 1
    assert most == 16 + ready


def test_a_budget_in_dollars_holds_with_64_calls_in_flight_and_over_three_builds(tmp_path):
    """The price is reserved before a call is sent, and the plan counts what is still missing."""
    prompts = [f"prompt {i}" for i in range(200)]
    encoder = fakes.encoder()
    spent = []
    with serving() as server:
        for cap in (0.5, 0.5, 0.8):
            teacher = open_at(server, concurrency=64, price="0.01")
            cache = Cache(str(tmp_path / "cache"), create=True)
            report = build(cache, prompts, teacher, encoder, BuildOptions(budget_usd=cap))
            assert report.stopped == "budget"
            spent.append((sum(server.requested.values()), report.cost_usd_total))
        source = source_of_teacher(teacher)
        requests = make_requests(source, prompts)
        plan = make_plan(cache, source, source_of_encoder(encoder), requests)
    assert spent == [(50, 0.5), (50, 0.5), (80, 0.8)]
    assert (plan.pictures_at_hand, plan.calls) == (80, 120)
