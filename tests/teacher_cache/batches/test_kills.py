"""Kills at random moments and at every crash point of a build that sends batches: no picture is paid twice, none lost.

The provider is a server in this process, which outlives the builds that are killed.
"""

import random
import signal
import time

import pytest

from teacher_cache import BuildOptions, Cache, build, open_teacher, status, verify
from teacher_cache.files.crash_points import BATCH_POINTS
from tests import fakes
from tests.faults.forked import killed_after, start, wait
from tests.teacher_cache.batches.batch_server import serving

pytestmark = pytest.mark.faults
PROMPTS = [f"prompt {i}" for i in range(20)]
KIND = (  # of faults that lose no result
    *("ok", "expired with half done", "cancelled with half done", "failed with half done", "twice", "another order"),
    *("a key never asked", "queue full", "rows fail once", "output late", "ok", "ok"),
)


def run_build(folder, url, prompts=PROMPTS, wait=True):
    teacher = open_teacher(f"openai-batch:m?base_url={url}&price=0.04&rows=6&poll=0.02")
    options = BuildOptions(wait=wait, seal_rows=7)
    return build(Cache(str(folder), create=True), prompts, teacher, fakes.encoder(), options)


def check(folder, server, prompts=PROMPTS):
    """Assert that every picture was paid once, and that the ledger says so to the cent."""
    assert len(server.paid) == len(prompts)
    assert set(server.paid.values()) == {1}
    cache = Cache(str(folder))
    (state,) = status(cache)
    assert (state.pictures, state.failures, state.in_spool, state.in_flight) == (len(prompts), {}, 0, 0)
    assert (state.in_batches, state.reserved_usd) == ({}, 0.0)
    assert state.cost_usd == pytest.approx(len(prompts) * 0.02)
    assert {problem.kind for problem in verify(str(folder)).problems} <= {"orphan"}  # of a killed seal
    left = {file["purpose"] for file in server.files.values()}
    assert left <= {"batch"}  # at most the requests of a batch that was not accepted, and never a picture


def test_a_kill_at_every_crash_point_pays_for_no_picture_twice_and_loses_none(tmp_path):
    with serving("ok", "expired with half done") as server:
        server.looks = 2
        for point in BATCH_POINTS:
            build = start(lambda: run_build(tmp_path / "cache", server.url), ARMADA_CRASH_POINT=f"{point}:1")
            assert wait(build) == -signal.SIGKILL, point
        run_build(tmp_path / "cache", server.url)
        check(tmp_path / "cache", server)


@pytest.mark.slow  # minutes: `pytest -m faults`
@pytest.mark.timeout(1800)
def test_a_hundred_kills_at_random_moments_pay_for_no_picture_twice_and_lose_none(tmp_path):
    chance = random.Random(2026)
    kills, rounds = 0, 0
    with serving() as server:
        started = time.monotonic()
        assert wait(start(lambda: run_build(tmp_path / "unbroken", server.url))) == 0
        seconds = time.monotonic() - started
    while kills < 100:
        folder = tmp_path / f"cache-{rounds}"
        with serving(*chance.choices(KIND, k=12)) as server:
            server.looks = chance.randint(1, 4)
            server.unheard = set(chance.sample(range(1, 20), 4))
            server.has_ranges, server.has_metadata = chance.random() < 0.5, chance.random() < 0.8

            of_round = 0
            for _ in range(12):
                waits = chance.random() < 0.7

                def some_build(folder=folder, server=server, waits=waits):
                    run_build(folder, server.url, wait=waits)

                started = time.monotonic()
                is_killed = killed_after(some_build, chance.uniform(0.1, 1.0) * seconds)
                of_round += is_killed
                if waits and not is_killed:  # it is complete
                    seconds = min(seconds, time.monotonic() - started)
                    break
                server.away = chance.choice((0, 0, 3))
                server.cuts = chance.choice((0, 1))
            run_build(folder, server.url)
            check(folder, server)
        kills, rounds = kills + of_round, rounds + 1


@pytest.mark.slow  # minutes: `pytest -m faults`
@pytest.mark.parametrize("point", BATCH_POINTS)
def test_repeated_kills_at_a_crash_point_pay_for_no_picture_twice(tmp_path, point):
    kills = 0
    with serving("rows fail once", "twice", "expired with half done", "queue full") as server:
        for number in (1, 2, 1, 3, 2, 1, 1, 2):
            build = start(lambda: run_build(tmp_path / "cache", server.url), ARMADA_CRASH_POINT=f"{point}:{number}")
            code = wait(build)
            assert code in (0, -signal.SIGKILL)
            kills += code == -signal.SIGKILL
        assert kills >= 2
        run_build(tmp_path / "cache", server.url)
        check(tmp_path / "cache", server)


def test_two_builds_at_once_send_no_picture_twice(tmp_path):
    with serving("ok", "expired with half done") as server:
        server.looks = 3
        Cache(str(tmp_path / "cache"), create=True)
        builds = [start(lambda: run_build(tmp_path / "cache", server.url)) for _ in range(2)]
        assert [wait(build) for build in builds] == [0, 0]
        run_build(tmp_path / "cache", server.url)
        check(tmp_path / "cache", server)
