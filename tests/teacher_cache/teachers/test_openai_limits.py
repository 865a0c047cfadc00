"""What is no row's fault fails no row: limits on requests are waited out, and a wrong option, no money or a dead server
end the build.
"""

import time

import pytest

from teacher_cache import ArmadaError, BuildOptions, build, source_of_teacher, status
from teacher_cache.building import retries
from teacher_cache.teachers import call_streak, rate_limit
from tests import fakes
from tests.teacher_cache.image_server import KEY, Reply, error, serving
from tests.teacher_cache.teachers.test_openai import open_at

PROMPTS = [f"prompt {i}" for i in range(20)]


@pytest.fixture(autouse=True)
def _key_and_no_long_waits(monkeypatch):
    monkeypatch.setenv("TEST_IMAGE_KEY", KEY)
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.02)
    monkeypatch.setattr(rate_limit, "_PAUSE_S", 0.05)


class Window:
    """A server's limit of five pictures per window of some seconds. `named`: whether it says how long to wait."""

    def __init__(self, named, seconds=0.6):
        self.named, self.seconds, self.start, self.taken, self.turned_away = named, seconds, 0.0, 0, 0

    def __call__(self, prompt, number):
        now = time.monotonic()
        if now - self.start > self.seconds:
            self.start, self.taken = now, 0
        self.taken += 1
        if self.taken <= 5:
            return "ok"
        self.turned_away += 1
        headers = {"Retry-After": f"{self.start + self.seconds - now:.2f}"} if self.named else {}
        return error(429, headers, code="rate_limit_exceeded")


@pytest.mark.parametrize("named", [True, False])
def test_a_limit_of_five_pictures_a_minute_is_waited_out_and_costs_neither_attempts_nor_calls(cache, named):
    window = Window(named)
    with serving(window) as server:
        teacher = open_at(server, price="0.01", concurrency=8)
        options = BuildOptions(attempts=1, max_calls=20, budget_usd=0.2)
        report = build(cache, PROMPTS, teacher, fakes.encoder(), options)
    assert window.turned_away >= 3
    assert (report.stopped, report.failed, report.drawn, report.calls) == ("", {}, 20, 20)
    assert report.cost_usd == pytest.approx(0.2)
    assert set(cache.images(source_of_teacher(teacher), ["attempts"])["attempts"].to_pylist()) == {1}


def test_a_request_that_was_turned_away_has_all_its_attempts_left(cache):
    with serving(lambda prompt, number: ("429", "500", "ok")[min(number, 3) - 1]) as server:
        report = build(cache, PROMPTS[:2], open_at(server), fakes.encoder(), BuildOptions(attempts=2))
    assert (report.drawn, report.failed, report.calls) == (2, {}, 4)


def test_an_endless_limit_ends_the_build_and_leaves_the_rows_missing(cache, monkeypatch):
    monkeypatch.setattr(call_streak, "_LONGEST_LIMIT_S", 0.5)
    with (
        serving(lambda prompt, number: "429") as server,
        pytest.raises(ArmadaError, match="every call was turned away"),
    ):
        build(cache, PROMPTS, open_at(server, price="0.1"), fakes.encoder())
    (state,) = status(cache)
    assert (state.failures, state.in_flight, state.cost_usd) == ({}, 0, 0.0)


CERTAIN = [
    error(400, code="billing_hard_limit_reached", type="billing_limit_user_error"),
    error(429, code="insufficient_quota"),
    error(400, code="unknown_parameter", param="moderation"),
    error(403, code="account_deactivated", message="content policy"),
    Reply(200, {"error": {"code": "billing_hard_limit_reached"}}),
]
WITHOUT_CODE = [  # after pictures came, they may be the prompt's
    error(400, message="Unknown parameter: 'moderation'.", code=None),
    Reply(422, {"detail": "moderation is no option"}),
    Reply(307, b"", {"Location": "http://elsewhere/"}),
]


@pytest.mark.parametrize(
    ("sent", "drawn"), [(sent, 0) for sent in CERTAIN + WITHOUT_CODE] + [(sent, 2) for sent in CERTAIN]
)
def test_an_error_of_every_request_ends_the_build_records_no_failure_and_the_same_build_goes_on_later(
    cache, sent, drawn
):
    good = set(PROMPTS[:drawn])
    with serving(lambda prompt, number: "ok" if prompt in good else sent) as server:
        teacher = open_at(server, price="0.1", concurrency=2)
        with pytest.raises(ArmadaError):
            build(cache, PROMPTS, teacher, fakes.encoder())
        (state,) = status(cache)
        assert (state.pictures, state.failures, state.cost_usd) == (drawn, {}, pytest.approx(0.1 * drawn))
        good.update(PROMPTS)
        report = build(cache, PROMPTS, teacher, fakes.encoder())
    assert (report.drawn, report.failed) == (20 - drawn, {})


def test_an_error_without_a_code_is_the_prompts_where_the_server_draws_others(cache):
    sent = error(400, message="no", code=None)
    with serving(lambda prompt, number: sent if prompt in PROMPTS[:7] else "ok") as server:
        report = build(cache, PROMPTS, open_at(server), fakes.encoder())
    assert (report.drawn, report.failed) == (13, {"permanent": 7})


def test_a_dead_server_ends_a_small_build_too_and_fails_no_row(cache, monkeypatch):
    monkeypatch.setattr(call_streak, "_UNREACHABLE", (5, 0.1))
    with serving() as server:
        teacher = open_at(server, concurrency=2, price="0.1")
    with pytest.raises(ArmadaError, match="calls in a row failed, the last one with: no connection"):
        build(cache, PROMPTS[:2], teacher, fakes.encoder(), BuildOptions(attempts=2))
    (state,) = status(cache)
    assert (state.failures, state.in_flight, state.cost_usd) == ({}, 0, 0.0)


def test_a_server_that_takes_no_seed_names_the_option_that_sends_none(cache):
    sent = error(400, code="unknown_parameter", param="seed")
    with serving(lambda prompt, number: sent if server.bodies[-1].get("seed") else "ok") as server:
        with pytest.raises(ArmadaError, match=r"parameter seed.*add seed=false"):
            build(cache, PROMPTS[:2], open_at(server, concurrency=1), fakes.encoder(), BuildOptions(samples=2))
        report = build(cache, PROMPTS[:2], open_at(server, seed="false"), fakes.encoder(), BuildOptions(samples=2))
    assert (report.pictures_at_hand, report.drawn, report.failed) == (1, 3, {})
