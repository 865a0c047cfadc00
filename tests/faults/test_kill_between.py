"""SIGKILL between a claim and its call, with eight calls in flight: neither calls nor money are ever under-counted."""

import signal
from collections import Counter, deque

import pytest

from teacher_cache import BuildOptions, Cache, build, status
from tests import fakes
from tests.faults.forked import start, wait

pytestmark = pytest.mark.faults
PROMPTS = [f"prompt {i}" for i in range(60)]
IN_FLIGHT = 8


class Fast(fakes.FakeTeacher):
    """Has eight calls in flight, and logs each when it is sent."""

    concurrency = IN_FLIGHT

    def draw(self, requests):
        sent = deque()
        for request in requests:
            (answer,) = super().draw([request])
            sent.append(answer)
            if len(sent) == self.concurrency:
                yield sent.popleft()
        yield from sent


def run(folder):
    teacher = Fast(fakes.Spec("fake", "", {"price": "0.04"}, "fake"))
    build(Cache(str(folder), create=True), PROMPTS, teacher, fakes.encoder(), BuildOptions(seal_rows=9))


@pytest.mark.parametrize("point", ["spool.claim", "drawing.send", "spool.record"])
def test_a_kill_between_claim_and_call_loses_no_count_and_repeats_only_calls_in_flight(tmp_path, point):
    folder, log = tmp_path / "cache", tmp_path / "log"
    log.touch()
    kills = 0
    for number in (1, 3, 2, 5):
        code = wait(start(lambda: run(folder), ARMADA_FAKE_LOG=str(log), ARMADA_CRASH_POINT=f"{point}:{number}"))
        assert code == -signal.SIGKILL
        kills += 1
        sent = len(log.read_text().splitlines())
        (state,) = status(Cache(str(folder)))
        unsent = state.calls - sent
        assert (1 if point == "drawing.send" else 0) <= unsent <= 2 * IN_FLIGHT * kills
        assert state.cost_usd == pytest.approx(0.04 * state.calls)
    assert wait(start(lambda: run(folder), ARMADA_FAKE_LOG=str(log))) == 0
    sent = Counter(log.read_text().splitlines())
    assert len(sent) == len(PROMPTS)
    assert sum(sent.values()) <= len(PROMPTS) + 2 * IN_FLIGHT * kills  # in flight, or answered and not stored yet
    (state,) = status(Cache(str(folder)))
    assert (state.pictures, state.in_flight) == (len(PROMPTS), 0)
    assert state.calls >= sum(sent.values())
