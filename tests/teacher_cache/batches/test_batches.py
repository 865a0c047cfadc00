"""A picture bought in a batch is bought once, at half the price, whatever happens to the batch or to the build."""

import pytest

from teacher_cache import BuildOptions, build, open_teacher, source_of_teacher, status
from teacher_cache.batches import api, collecting, sending
from tests import fakes
from tests.teacher_cache.batches.batch_server import serving

PROMPTS = [f"prompt {i}" for i in range(8)]
WAIT = BuildOptions(wait=True)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(api, "_PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(sending, "LISTED_AFTER_S", 0.0)
    monkeypatch.setattr(collecting, "MISSING_S", 0.1)


def teacher(server, **options):
    words = {"base_url": server.url, "price": "0.04", "poll": "0.02", **options}
    return open_teacher("openai-batch:gpt-image-1-mini?" + "&".join(f"{k}={v}" for k, v in words.items()))


def run(cache, server, options=WAIT, prompts=PROMPTS, **spec):
    return build(cache, prompts, teacher(server, **spec), fakes.encoder(), options)


def state_of(cache):
    (state,) = status(cache)
    return state


def test_a_batch_brings_each_picture_once_at_half_the_price(cache):
    with serving() as server:
        report = run(cache, server, BuildOptions(wait=True))
        assert (report.drawn, report.encoded, report.calls, report.stopped) == (8, 8, 8, "")
        assert report.cost_usd == pytest.approx(8 * 0.02)
        assert server.pictures == 8
        assert len(server.batches) == 1
        assert not server.files  # the provider's copies are deleted
    assert state_of(cache).cost_usd == pytest.approx(8 * 0.02)


def test_keys_are_those_of_the_online_teacher(cache):
    with serving() as server:
        online = open_teacher(f"openai:gpt-image-1-mini?base_url={server.url}")
        assert source_of_teacher(online).digest == source_of_teacher(teacher(server, poll=5, rows=9)).digest


@pytest.mark.parametrize(
    "fault",
    [
        "expired with half done",
        "cancelled with half done",
        "failed with half done",
        "twice",
        "another order",
        "a key never asked",
        "output late",
        "queue full",
        "rows fail once",
    ],
)
def test_what_a_batch_did_not_bring_is_asked_again_and_nothing_is_paid_twice(cache, fault):
    with serving(fault) as server:
        report = run(cache, server)
        assert (report.drawn, report.failed, report.stopped) == (8, {}, "")
        assert set(server.paid.values()) == {1}
        assert report.cost_usd == pytest.approx(8 * 0.02)
        assert report.calls == 8 + (fault == "rows fail once")
    assert state_of(cache).cost_usd == pytest.approx(8 * 0.02)
