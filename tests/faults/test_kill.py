"""SIGKILL in the middle of a build: after a restart nothing is lost, and at most the call in flight is repeated."""

import json
import random
import signal
import subprocess
import time

import pytest

from tests.pipelines.cli import FAKES, armada, command, environment

pytestmark = pytest.mark.faults
ROWS = 40


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_build_resumes_and_repeats_at_most_the_call_in_flight(tmp_path, seed):
    prompts, cache, log = tmp_path / "prompts.txt", tmp_path / "cache", tmp_path / "log"
    prompts.write_text("".join(f"prompt {i}\n" for i in range(ROWS)))
    words = ("cache", "build", prompts, *FAKES, "--cache", cache, "--seal-rows", 7, "--json")
    chance = random.Random(seed)
    kills = 0
    while kills < 4:
        made = len(log.read_text().splitlines()) if log.exists() else 0
        process = subprocess.Popen(
            command(*words),
            env=environment(ARMADA_FAKE_LOG=log, ARMADA_FAKE_DELAY=0.02),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        target = made + chance.randint(1, 8)
        while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < target):
            time.sleep(0.002)
        time.sleep(chance.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    last = armada(*words, ARMADA_FAKE_LOG=log)
    assert last.returncode == 0, last.stderr
    calls = log.read_text().splitlines()
    assert len(set(calls)) == ROWS
    assert len(calls) <= ROWS + kills  # one call was in flight at each kill
    report = json.loads(last.stdout)
    assert ROWS <= len(calls) <= report["calls_total"] <= ROWS + kills
    (state,) = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"]
    assert (state["pictures"], state["encoders"][0]["features"], state["in_flight"]) == (ROWS, ROWS, 0)


def test_two_concurrent_builds_pay_for_no_prompt_twice(tmp_path):
    prompts, cache, log = tmp_path / "prompts.txt", tmp_path / "cache", tmp_path / "log"
    prompts.write_text("".join(f"prompt {i}\n" for i in range(ROWS)))
    words = ("cache", "build", prompts, *FAKES, "--cache", cache, "--seal-rows", 5)
    settings = environment(ARMADA_FAKE_LOG=log, ARMADA_FAKE_DELAY=0.03)
    builds = [subprocess.Popen(command(*words), env=settings, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for build in builds:
        _, errors = build.communicate(timeout=120)
        assert build.returncode == 0, errors
    calls = log.read_text().splitlines()
    assert len(calls) == len(set(calls)) == ROWS


def test_if_one_of_two_builds_is_killed_the_other_finishes_its_rows(tmp_path):
    prompts, cache, log = tmp_path / "prompts.txt", tmp_path / "cache", tmp_path / "log"
    prompts.write_text("".join(f"prompt {i}\n" for i in range(ROWS)))
    words = ("cache", "build", prompts, *FAKES, "--cache", cache, "--seal-rows", 5)
    settings = environment(ARMADA_FAKE_LOG=log, ARMADA_FAKE_DELAY=0.05)
    victim, other = (
        subprocess.Popen(command(*words), env=settings, stderr=subprocess.PIPE, text=True) for _ in range(2)
    )
    while not log.exists() or len(log.read_text().splitlines()) < 10:
        time.sleep(0.01)
    victim.kill()
    victim.communicate()
    _, errors = other.communicate(timeout=120)
    assert other.returncode == 0, errors
    calls = log.read_text().splitlines()
    assert len(set(calls)) == ROWS
    assert len(calls) <= ROWS + 1
    (state,) = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"]
    assert (state["pictures"], state["encoders"][0]["features"]) == (ROWS, ROWS)
