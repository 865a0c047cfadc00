"""Kills at random moments and at every crash point of build, compact and merge; two builds.

The teacher logs each call before it answers: every call in the log was paid for.
"""

import os
import random
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from teacher_cache import BuildOptions, Cache, build, choose, compact, merge, open_features, status, verify
from teacher_cache.files.crash_points import POINTS
from tests import fakes
from tests.faults.forked import killed_after, start, wait
from tests.teacher_cache.maintenance.caches import rows_of

pytestmark = [pytest.mark.faults, pytest.mark.slow]  # minutes: `pytest -m faults`; the quick ones are in test_kill
PROMPTS = [f"prompt {i}" for i in range(60)]
OPTIONS = BuildOptions(shard_rows=16, seal_rows=9)
OF_MAINTENANCE = ("vacuum.remove", "store.quarantine")  # crash points that no build passes


def run_build(folder, prompts=PROMPTS, options=OPTIONS):
    build(Cache(str(folder), create=True), prompts, fakes.teacher(), fakes.encoder(), options)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The rows of a cache whose build was not killed."""
    folder = tmp_path_factory.mktemp("unbroken") / "cache"
    run_build(folder)
    return rows_of(Cache(str(folder)))


def calls(log):
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def check(folder, log, kills, unbroken):
    """Assert that each kill repeated at most one call, and that the rows are those of an unbroken build."""
    found = calls(log)
    assert set(found) == set(unbroken)
    assert sum(found.values()) <= len(unbroken) + kills
    assert rows_of(Cache(str(folder))) == unbroken
    (state,) = status(Cache(str(folder)))
    assert sum(found.values()) <= state.calls <= sum(found.values()) + kills  # killed between claim and call


def test_two_hundred_kills_at_random_moments_lose_no_row(tmp_path, unbroken):
    """Repeat build, compact and merge until 200 processes were killed, for two minutes at most."""
    chance = random.Random(2026)
    kills, rounds = 0, 0
    deadline = time.monotonic() + 120
    while kills < 200 and time.monotonic() < deadline:
        folder, target, log = tmp_path / f"c{rounds}", tmp_path / f"t{rounds}", tmp_path / f"log{rounds}"
        settings = {"ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.001"}
        in_build, in_rest = 0, 0
        while killed_after(lambda folder=folder: run_build(folder), chance.uniform(0.01, 0.35), **settings):
            in_build += 1
            if in_build % 3 == 0:
                compaction = lambda folder=folder: compact(Cache(str(folder)), shard_rows=64)  # noqa: E731
                in_rest += killed_after(compaction, chance.uniform(0.001, 0.05))
        for _ in range(8):
            compaction = lambda folder=folder: compact(Cache(str(folder)), shard_rows=32, vacuum=True, retain_hours=0)  # noqa: E731
            in_rest += killed_after(compaction, chance.uniform(0.001, 0.12))
        for _ in range(8):
            merging = lambda folder=folder, target=target: merge(  # noqa: E731
                [Cache(str(folder))], Cache(str(target), create=True)
            )
            in_rest += killed_after(merging, chance.uniform(0.001, 0.12))
        merge([Cache(str(folder))], Cache(str(target), create=True))
        check(folder, log, in_build, unbroken)
        assert rows_of(Cache(str(target))) == unbroken
        verify(str(folder), repair=True)
        assert verify(str(folder)).problems == []
        assert rows_of(Cache(str(folder))) == unbroken
        kills += in_build + in_rest
        rounds += 1
        for used in (folder, target):
            shutil.rmtree(used)
    assert kills >= 200, f"only {kills} kills in two minutes"


@pytest.mark.parametrize("point", [point for point in POINTS if point not in OF_MAINTENANCE])
def test_a_kill_at_every_crash_point_of_a_build_loses_no_row_and_repeats_at_most_one_call(tmp_path, unbroken, point):
    folder, log = tmp_path / "cache", tmp_path / "log"
    kills = 0
    for number in (1, 2, 3, 5, 8, 1, 2):
        settings = {"ARMADA_FAKE_LOG": str(log), "ARMADA_CRASH_POINT": f"{point}:{number}"}
        code = wait(start(lambda: run_build(folder), **settings))
        assert code in (0, -signal.SIGKILL)
        kills += code == -signal.SIGKILL
    assert kills >= 3, f"{point} was passed in only {kills} builds"
    assert wait(start(lambda: run_build(folder), ARMADA_FAKE_LOG=str(log))) == 0
    check(folder, log, kills, unbroken)


@pytest.mark.parametrize("point", [point for point in POINTS if not point.startswith("spool")])
def test_a_kill_at_every_crash_point_of_compaction_and_merge_loses_no_row(tmp_path, unbroken, point):
    folder, target = tmp_path / "cache", tmp_path / "target"
    run_build(folder)
    for number in (1, 2, 3):
        wait(
            start(
                lambda: compact(Cache(str(folder)), vacuum=True, retain_hours=0), ARMADA_CRASH_POINT=f"{point}:{number}"
            )
        )
        assert rows_of(Cache(str(folder))) == unbroken
        merging = lambda: merge([Cache(str(folder))], Cache(str(target), create=True))  # noqa: E731
        wait(start(merging, ARMADA_CRASH_POINT=f"{point}:{number}"))
    merge([Cache(str(folder))], Cache(str(target), create=True))
    assert rows_of(Cache(str(target))) == unbroken


def test_a_cap_on_cost_holds_for_concurrent_builds_and_across_kills_and_restarts(tmp_path):
    folder, log = tmp_path / "cache", tmp_path / "log"
    options = BuildOptions(budget_usd=1.0, seal_rows=9)

    def capped_build():
        teacher = fakes.teacher(price=0.04)
        build(Cache(str(folder), create=True), PROMPTS, teacher, fakes.encoder(), options)

    settings = {"ARMADA_FAKE_LOG": str(log), "ARMADA_FAKE_DELAY": "0.01"}
    Cache(str(folder), create=True)
    for kill_after in (0.1, 0.15, 3.0):
        children = [start(capped_build, **settings) for _ in range(4)]
        time.sleep(kill_after)
        os.kill(children[0], signal.SIGKILL)
        for child in children:
            wait(child)
    (state,) = status(Cache(str(folder)))
    assert sum(calls(log).values()) <= 25
    assert state.cost_usd <= 1.0 + 1e-9
    assert state.calls == 25  # the whole budget was used, and no more


def test_a_reader_during_compaction_sees_every_row(tmp_path, unbroken):
    folder = tmp_path / "cache"
    run_build(folder)
    child = start(
        lambda: [compact(Cache(str(folder)), shard_rows=rows, vacuum=True, retain_hours=0) for rows in (20, 40, 64)]
    )
    seen = 0
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        cache = Cache(str(folder))
        features = open_features(cache, *choose(cache, None, None))
        assert (features.rows_of(PROMPTS) >= 0).all()
        seen += 1
    assert seen
    assert rows_of(Cache(str(folder))) == unbroken


def test_sweep_removes_the_drafts_of_dead_processes(tmp_path):
    folder, log = tmp_path / "cache", tmp_path / "log"
    wait(start(lambda: run_build(folder), ARMADA_FAKE_LOG=str(log), ARMADA_CRASH_POINT="store.draft:4"))
    drafts = list(Path(folder).glob(".draft-*"))
    assert drafts
    assert Cache(str(folder)).store.sweep(older_than_s=0) == len(drafts)
    assert not list(Path(folder).glob(".draft-*"))
