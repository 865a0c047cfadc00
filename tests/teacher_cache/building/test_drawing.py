"""Requests that failed transiently are repeated in the same build, each call is counted, and lasting failures have a
reason.
"""

from collections import Counter, deque

import pytest

from teacher_cache import ArmadaError, BuildOptions, CacheError, Failure, build, source_of_teacher, status
from teacher_cache.building import retries
from teacher_cache.files.disk import DiskFullError
from teacher_cache.spool.spool import Spool
from tests import fakes

PROMPTS = [f"prompt {i}" for i in range(6)]


@pytest.fixture(autouse=True)
def _no_long_waits(monkeypatch):
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.01)


class Shaky(fakes.FakeTeacher):
    """Fails transiently for each prompt as many times as the prompt's number."""

    def draw(self, requests):
        attempts = self.__dict__.setdefault("attempts", Counter())
        for request in requests:
            self.calls.append(request.image_key)
            attempts[request.prompt] += 1
            if attempts[request.prompt] <= int(request.prompt.split()[1]):
                cost = None if self.price_usd is None else 0.0
                yield Failure(request.image_key, "transient", "HTTP 503", cost, retry_after_s=0.0)
            else:
                yield self._answer(request)


def shaky(**options: str) -> Shaky:
    return Shaky(fakes.Spec("fake", "", options, "fake"))


def test_a_transient_failure_is_retried_until_it_succeeds_or_no_attempts_are_left(cache):
    teacher = shaky()
    report = build(cache, PROMPTS, teacher, fakes.encoder(), BuildOptions(attempts=4))
    assert (report.drawn, report.encoded, report.failed) == (4, 4, {"transient": 2})
    assert report.calls == len(teacher.calls) == 1 + 2 + 3 + 4 + 4 + 4
    rows = cache.failures(source_of_teacher(teacher)).to_pylist()
    assert [(row["attempts"], row["message"]) for row in rows] == [(4, "HTTP 503")] * 2
    images = cache.images(source_of_teacher(teacher)).to_pylist()
    assert sorted(row["attempts"] for row in images) == [1, 2, 3, 4]


def test_every_attempt_is_reserved_from_the_budget_and_recorded_with_its_actual_cost(cache, monkeypatch):
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.5)  # so that the other prompt comes first
    teacher = shaky(price="0.1")
    report = build(cache, ["prompt 1", "prompt 0"], teacher, fakes.encoder(), BuildOptions(budget_usd=0.15))
    assert (report.stopped, report.cost_usd, report.calls, report.drawn) == ("budget", 0.1, 2, 1)
    assert report.failed == {}  # the next build requests what waited for its retry
    assert build(cache, ["prompt 1", "prompt 0"], teacher, fakes.encoder()).drawn == 1


def test_the_build_after_a_stopped_one_requests_what_waited_for_a_retry(cache):
    teacher = shaky()
    report = build(cache, ["prompt 3"], teacher, fakes.encoder(), stop=lambda: len(teacher.calls) >= 2)
    assert (report.stopped, report.failed, report.calls) == ("interrupted", {}, 2)
    assert build(cache, ["prompt 3"], teacher, fakes.encoder()).drawn == 1


def test_an_error_that_stops_the_build_keeps_its_pictures_and_frees_its_claims(cache):
    class Refused(fakes.FakeTeacher):
        def draw(self, requests):
            for answer in super().draw(requests):
                yield answer
                if len(self.calls) == 3:
                    raise ArmadaError("HTTP 401: the key is wrong")

    teacher = Refused(fakes.Spec("fake", "", {}, "fake"))
    with pytest.raises(ArmadaError, match="HTTP 401"):
        build(cache, PROMPTS, teacher, fakes.encoder())
    (state,) = status(cache)
    assert (state.pictures, state.in_spool, state.in_flight, state.calls) == (3, 0, 0, 3)


class Ahead(fakes.FakeTeacher):
    """Has four calls in flight: it sends the fifth request before it answers the first."""

    concurrency = 4

    def draw(self, requests):
        in_flight = deque()
        for request in requests:
            self.calls.append(request.image_key)
            in_flight.append(request)
            if len(in_flight) > self.concurrency:
                yield self._answer(in_flight.popleft())
        while in_flight:
            yield self._answer(in_flight.popleft())


@pytest.mark.parametrize("step", ["claims", "answers", "costs"])
def test_if_the_spool_cannot_be_written_no_call_is_sent_any_more_and_those_in_flight_are_stored(
    cache, monkeypatch, step
):
    write, passed = Spool._write, []

    def full(self, claims, answers, costs):
        if {"claims": claims and claims.wanted, "answers": answers, "costs": costs}[step]:
            passed.append(step)
            if len(passed) == (1 if step == "costs" else 3):
                raise DiskFullError("no room left on the disk")
        return write(self, claims, answers, costs)

    monkeypatch.setattr(Spool, "_write", full)
    teacher = Ahead(fakes.Spec("fake", "", {}, "fake"))
    prompts = [f"prompt {i}" for i in range(40)]
    if step == "costs":
        answer = teacher._answer

        def failing_once(request):
            if request.image_key == teacher.calls[3]:
                return Failure(request.image_key, "transient", "HTTP 503", retry_after_s=0.0)
            return answer(request)

        monkeypatch.setattr(teacher, "_answer", failing_once)
    with pytest.raises(CacheError, match="no room left on the disk"):
        build(cache, prompts, teacher, fakes.encoder())
    (state,) = status(cache)
    assert len(teacher.calls) < 20
    assert state.calls == len(teacher.calls)
    assert state.pictures + state.in_spool == len(teacher.calls) - (step == "costs")
    monkeypatch.undo()
    again = Ahead(fakes.Spec("fake", "", {}, "fake"))
    assert build(cache, prompts, again, fakes.encoder()).calls == 40 - len(teacher.calls) + (step == "costs")
