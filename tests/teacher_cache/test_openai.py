"""The openai teacher against a real HTTP server that misbehaves: every prompt is answered or has its reason, every call
is counted, and the key is nowhere but in the request.
"""

import itertools
import random
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from teacher_cache import (
    ArmadaError,
    BuildOptions,
    Cache,
    SpecError,
    build,
    drawing,
    encoder_source,
    make_plan,
    open_teacher,
    status,
    teacher_source,
)
from teacher_cache.plan import ask as plan_asked
from teacher_cache.teachers import Picture, Request, openai_images
from teacher_cache.teachers.http_errors import HopelessError, reason_of, retry_after
from teacher_cache.teachers.pacing import Pace
from tests import fakes
from tests.teacher_cache.image_server import FAULTS, KEY, serving

PROMPTS = [f"prompt {i}" for i in range(6)]
NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    monkeypatch.setattr(drawing, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(openai_images, "_PAUSE_S", 0.05)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def teacher(server, **options):
    options = {"base_url": server.url, "key_env": "TEST_IMAGE_KEY", **options}
    return open_teacher("openai:tiny-image?" + "&".join(f"{name}={value}" for name, value in options.items()))


def ask(drawer, prompts, samples=1):
    requests = [Request(f"{prompt}/{k}", prompt, k, 12345) for prompt in prompts for k in range(samples)]
    return {answer.image_key: answer for answer in drawer.draw(iter(requests))}


def test_pictures_come_as_base64_or_by_url_and_the_key_goes_to_the_api_alone():
    with serving(lambda prompt, number: "url" if prompt == "prompt 1" else "ok") as server:
        answers = ask(teacher(server, size="256x256", seed="true", concurrency=3), PROMPTS)
    assert all(isinstance(answer, Picture) and answer.suffix == "png" for answer in answers.values())
    assert len({answer.data for answer in answers.values()}) == len(PROMPTS)
    assert sorted(server.keys) == [""] + [f"Bearer {KEY}"] * 6
    assert all(
        (body["size"], body["seed"], body["model"]) == ("256x256", 12345, "tiny-image") for body in server.bodies
    )


def test_samples_of_a_prompt_share_a_call_where_the_server_takes_n():
    with serving(lambda prompt, number: "too few" if (prompt, number) == ("prompt 2", 1) else "ok") as server:
        answers = ask(teacher(server, n=2, price="0.1", concurrency=1), PROMPTS[:3], samples=3)
    assert server.asked == {"prompt 0": 2, "prompt 1": 2, "prompt 2": 2}  # two and one
    lacking = answers["prompt 2/1"]
    assert (lacking.reason, lacking.cost_usd, lacking.retry_after_s) == ("transient", 0.0, 0.0)
    assert sum(isinstance(answer, Picture) for answer in answers.values()) == 8
    assert len({answer.data for answer in answers.values() if isinstance(answer, Picture)}) >= 5


def test_a_paid_picture_whose_url_hiccups_is_fetched_again_and_not_asked_again():
    def plan(prompt, number):
        return {"prompt 0": "url flaky", "prompt 1": "url gone"}.get(prompt, "ok").replace(" ", "-")

    with serving(plan) as server:
        answers = ask(teacher(server, price="0.1"), PROMPTS[:3])
    assert set(server.asked.values()) == {1}
    assert isinstance(answers["prompt 0/0"], Picture)
    assert (answers["prompt 1/0"].reason, answers["prompt 1/0"].cost_usd) == ("transient", 0.1)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_night_of_faults_ends_with_a_picture_or_a_reason_for_every_prompt(tmp_path, capfd, seed):
    """The issue's plan: each prompt meets up to two faults, some for ever; then `retry` on a sound server."""
    chance = random.Random(seed)
    prompts = [f"prompt {i} {fault}" for i, fault in enumerate(FAULTS * 3)]
    fates = {}
    for prompt in prompts:
        first = next(fault for fault in sorted(FAULTS, key=len, reverse=True) if prompt.endswith(fault))
        fates[prompt] = [first, *chance.sample(FAULTS, chance.randint(0, 1)), *["ok"] * chance.choice([0, 9])]
    lasting = {"sound": False}

    def plan(prompt, number):
        fate = fates[prompt]
        return "ok" if lasting["sound"] else fate[min(number, len(fate)) - 1]

    cache = Cache(str(tmp_path / "cache"), create=True)
    with serving(plan) as server:
        drawer = teacher(server, concurrency=13, timeout="2.0", max_mb=1, price="0.01")
        started = time.monotonic()
        report = build(cache, prompts, drawer, fakes.encoder(), BuildOptions(attempts=3, budget_usd=100))
        assert time.monotonic() - started < 90
        assert report.stopped == ""
        assert report.drawn + sum(report.failed.values()) == len(prompts)
        assert set(report.failed) <= {"transient", "permanent", "refused", "undecodable"}
        assert report.calls == sum(server.asked.values())
        assert max(server.asked.values()) <= 3
        assert {"refused", "undecodable", "permanent"} <= set(report.failed)
        before = sum(server.asked.values())
        lasting["sound"] = True
        (again,) = retry_here(cache, teacher(server, concurrency=13, price="0.01"))
        assert sum(server.asked.values()) - before == report.failed.get("transient", 0) == again.drawn
        (state,) = status(cache)
        assert state.failures == {name: n for name, n in report.failed.items() if name != "transient"}
        assert state.calls == sum(server.asked.values())
        assert 0 < state.cost_usd <= 0.01 * state.calls
    printed = "".join(capfd.readouterr())
    assert KEY not in printed
    assert not [path for path in Path(tmp_path).rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def retry_here(cache, drawer):
    """What `retry` does, with this teacher and a fake encoder that no spec opens."""
    encoder = fakes.encoder()
    prompts = [row["prompt"] for row in cache.failures(teacher_source(drawer)).to_pylist()]
    return [build(cache, prompts, drawer, encoder, BuildOptions(retry=("transient",)))]


def test_a_reply_too_late_is_asked_again_and_both_calls_are_counted_as_paid(cache):
    with serving(lambda prompt, number: "late" if number == 1 else "ok") as server:
        drawer = teacher(server, timeout="2.0", price="0.1")
        report = build(cache, PROMPTS[:2], drawer, fakes.encoder())
    assert (report.drawn, report.calls, report.cost_usd) == (2, 4, 0.4)


def test_errors_are_not_billed(cache):
    with serving(lambda prompt, number: "500" if number < 3 else "ok") as server:
        report = build(cache, PROMPTS[:2], teacher(server, price="0.1"), fakes.encoder())
    assert (report.drawn, report.calls, report.cost_usd) == (2, 6, 0.2)


def test_after_a_429_nobody_sends_until_the_pause_is_over():
    with serving(
        lambda prompt, number: "429 with Retry-After" if (prompt, number) == ("prompt 0", 1) else "ok"
    ) as server:
        answers = ask(teacher(server, concurrency=2), [f"prompt {i}" for i in range(12)])
    assert (answers["prompt 0/0"].reason, answers["prompt 0/0"].retry_after_s) == ("transient", 0.2)
    times = sorted(server.times)
    assert max(b - a for a, b in itertools.pairwise(times)) >= 0.15


def test_requests_a_minute_are_held():
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    pace = Pace(120, clock=lambda: now[0], sleep=sleep)
    sent = []
    for _ in range(5):
        pace.wait()
        sent.append(now[0])
    assert sent == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    pace.pause(10)
    pace.wait()
    assert now[0] == pytest.approx(12.0)


@pytest.mark.parametrize(
    "action", ["code 401 invalid_api_key", "code 404 model_not_found", "code 429 insufficient_quota"]
)
def test_what_no_prompt_can_mend_ends_the_build_and_loses_nothing(cache, action, capfd):
    with serving(lambda prompt, number: action if prompt == "prompt 3" else "ok") as server:
        with pytest.raises(ArmadaError, match=r"HTTP 4.. .*run the same command again") as caught:
            build(cache, PROMPTS, teacher(server, concurrency=1, price="0.1"), fakes.encoder())
        assert KEY not in str(caught.value)
        (state,) = status(cache)
        assert (state.pictures, state.in_flight, state.failures, state.cost_usd) == (3, 0, {}, 0.3)
        server.plan = lambda prompt, number: "ok"
        report = build(cache, PROMPTS, teacher(server, concurrency=1), fakes.encoder())
    assert (report.drawn, report.calls) == (3, 3)


def test_a_server_that_asks_for_a_day_ends_the_build(cache):
    with serving(lambda prompt, number: "a day") as server, pytest.raises(ArmadaError, match="asks to wait 86400 s"):
        build(cache, PROMPTS, teacher(server), fakes.encoder())


def test_a_dead_server_ends_the_build_instead_of_failing_every_prompt(cache):
    with serving() as server:
        drawer = teacher(server, concurrency=2)
    with pytest.raises(ArmadaError, match=r"3\d calls in a row failed, the last with: no connection"):
        build(cache, [f"prompt {i}" for i in range(200)], drawer, fakes.encoder())
    (state,) = status(cache)
    assert (state.failures, state.in_flight) == ({}, 0)


def test_without_its_key_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("TEST_IMAGE_KEY")
    with serving() as server, pytest.raises(HopelessError, match="environment variable TEST_IMAGE_KEY is not set"):
        ask(teacher(server), PROMPTS)
    assert not server.asked


def test_the_key_of_openai_is_sent_to_openai_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving() as server:
        ask(teacher(server, key_env=""), PROMPTS[:1])
    assert server.keys == [""]
    assert open_teacher("openai:gpt-image-1")._key_env == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("status_code", "body", "expected"),
    [
        (400, b'{"error": {"code": "moderation_blocked", "message": "x"}}', "refused"),
        (403, b'{"error": {"code": "content_filter", "message": "x"}}', "refused"),
        (400, b'{"error": {"code": "invalid_value", "message": "size"}}', "permanent"),
        (422, b'{"detail": "bad size"}', "permanent"),
        (302, b"", "permanent"),
        (408, b"", "transient"),
        (502, b"<html>bad gateway</html>", "transient"),
    ],
)
def test_an_error_status_is_one_of_four_reasons(status_code, body, expected):
    reason, message, _ = reason_of(status_code, {}, body, NOW)
    assert reason == expected
    assert f"HTTP {status_code}" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("1.5", 1.5), ("Wed, 25 Nov 2026 12:00:09 GMT", 9), ("", 0), ("soon", 0), ("-3", 0)],
)
def test_retry_after_in_seconds_or_as_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("openai:", "expected openai:MODEL"),
        ("openai:m?sise=1", "unknown option 'sise'; openai knows: background, base_url, concurrency"),
        ("openai:m?base_url=http://me:secret@host/v1", "without user, password or query"),
        ("openai:m?base_url=ftp://host", "base_url expects http"),
        ("openai:m?price=cheap", "option price expects dollars a picture, found 'cheap'"),
        ("openai:m?prices=/nowhere.yaml", "expected {m: "),
        ("openai:m?seed=yes", "option seed expects one of false, true"),
    ],
)
def test_a_spec_that_cannot_be_used_says_why(text, message):
    with pytest.raises(SpecError, match=message):
        open_teacher(text)


def test_prices_come_from_the_users_table(tmp_path):
    table = tmp_path / "prices.yaml"
    table.write_text("m: {'1024x1024 high': 0.167, low: 0.011, default: 0.04}\n")
    prices = [
        open_teacher(f"openai:m?prices={table}&{more}").price_usd
        for more in ("size=1024x1024&quality=high", "quality=low", "size=512x512", "price=0.5")
    ]
    assert prices == [0.167, 0.011, 0.04, 0.5]


def test_what_decides_a_picture_is_in_the_key_and_how_it_is_asked_is_not():
    def digest(more):
        return teacher_source(open_teacher(f"openai:m?{more}")).digest

    plain = digest("size=512x512")
    for same in ("concurrency=64", "rpm=60", "timeout=9", "price=0.1", "n=4", "max_mb=9", "licence=CC0"):
        assert digest(f"size=512x512&{same}") == plain
    others = [
        "size=256x256",
        "size=512x512&quality=low",
        "size=512x512&base_url=http://h/v1",
        "size=512x512&revision=2",
    ]
    assert len({plain, *map(digest, others)}) == 5


def test_a_cap_in_money_holds_with_64_calls_in_flight_and_over_three_restarts(tmp_path):
    """Prices are reserved before a call is sent; `plan` says what is still missing."""
    prompts = [f"prompt {i}" for i in range(200)]
    encoder = fakes.encoder()
    spent = []
    with serving() as server:
        for cap in (0.5, 0.5, 0.8):
            drawer = teacher(server, concurrency=64, price="0.01")
            cache = Cache(str(tmp_path / "cache"), create=True)
            report = build(cache, prompts, drawer, encoder, BuildOptions(budget_usd=cap))
            assert report.stopped == "budget"
            spent.append((sum(server.asked.values()), report.cost_usd_total))
        source = teacher_source(drawer)
        plan = make_plan(cache, source, encoder_source(encoder), plan_asked(source, prompts), rows=len(prompts))
    assert spent == [(50, 0.5), (50, 0.5), (80, 0.8)]
    assert (plan.pictures_at_hand, plan.wanted.num_rows) == (80, 120)
