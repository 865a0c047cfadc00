"""SIGKILL while texts are rewritten: after a restart nothing is lost, and at most the call in flight is repeated."""

import random
import signal
import time

import pytest

from teacher_cache import BuildOptions, Cache, build, open_teacher, rewriter_status, status, verify, with_recipe
from tests import fakes
from tests.faults.forked import killed_after, start, wait

pytestmark = pytest.mark.faults
TEXTS = [f"idea {i}" for i in range(20)]
OWN = "tests.teacher_cache.rewriting.own_rewriter:Own"
POINTS = ("spool.claim", "spool.record", "spool.sealed", "store.renamed", "cache.commit", "cache.committed")


def run_build(folder):
    teacher = open_teacher(with_recipe("tests.fakes:FakeTeacher", rewrite=OWN, suffix=", wide"))
    build(Cache(str(folder), create=True), TEXTS, teacher, fakes.encoder(), BuildOptions(samples=2, seal_rows=5))


def check(folder, log, kills):
    """Assert that each kill repeated at most one call, that no call is missing in the ledger, and that every picture
    was drawn from its rewritten text."""
    calls = log.read_text().splitlines()
    rewrites = [call for call in calls if call.startswith("rewrite ")]
    assert {call.removeprefix("rewrite ") for call in rewrites} == set(TEXTS)
    assert len(set(calls)) == 3 * len(TEXTS)
    assert len(calls) <= 3 * len(TEXTS) + kills
    cache = Cache(str(folder))
    (teacher,), (rewriter,) = status(cache), rewriter_status(cache)
    assert (teacher.pictures, rewriter.texts, rewriter.in_spool, teacher.in_spool) == (40, 20, 0, 0)
    assert len(calls) <= teacher.calls + rewriter.calls <= len(calls) + kills
    rows = cache.images(cache.teachers()[0], ["prompt", "drawn_prompt"]).to_pylist()
    assert {row["drawn_prompt"] for row in rows} == {f"seen: {text}, wide" for text in TEXTS}
    assert {problem.kind for problem in verify(str(folder), repair=True).problems} <= {"orphan"}
    assert verify(str(folder)).problems == []


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_crash_point_repeats_at_most_one_call(tmp_path, point):
    folder, log, kills = tmp_path / "cache", tmp_path / "log", 0
    for number in (2, 3):
        settings = {"ARMADA_FAKE_LOG": str(log), "ARMADA_CRASH_POINT": f"{point}:{number}"}
        code = wait(start(lambda: run_build(folder), **settings))
        assert code in (0, -signal.SIGKILL)
        kills += code == -signal.SIGKILL
    assert kills, f"{point} was never passed"
    assert wait(start(lambda: run_build(folder), ARMADA_FAKE_LOG=str(log))) == 0
    check(folder, log, kills)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kills_at_random_moments_for_a_minute_lose_no_text(tmp_path):
    chance, kills, rounds = random.Random(21), 0, 0
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        folder, log, here = tmp_path / f"c{rounds}", tmp_path / f"log{rounds}", 0
        settings = {"ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.002"}
        for _ in range(12):
            here += killed_after(lambda folder=folder: run_build(folder), chance.uniform(0.02, 2), **settings)
        assert wait(start(lambda folder=folder: run_build(folder), **settings)) == 0
        check(folder, log, here)
        kills, rounds = kills + here, rounds + 1
    assert kills > 10
