"""Workers on one machine: one plan, one budget, one report; whoever is killed, no row is lost or paid twice."""

import json
import os
import signal
import time

import pytest

from teacher_cache import Cache
from tests.pipelines.cli import armada
from tests.teacher_cache.crews.builds import children, content, lines, start, wait_for_calls, words, write_prompts

ROWS = 60


@pytest.fixture
def one_process(tmp_path):
    """What a build by one process makes of the prompts, and its report."""
    prompts = write_prompts(tmp_path, ROWS)
    single = armada(*words(prompts, tmp_path / "single"))
    assert single.returncode == 3, single.stderr
    return content(tmp_path / "single"), json.loads(single.stdout)


def test_two_workers_with_one_killed_leave_what_one_process_leaves(tmp_path, one_process):
    prompts, log = tmp_path / "prompts.txt", tmp_path / "log"
    build = start(
        *words(prompts, tmp_path / "cache", "--workers", 2, "--seal-rows", 10),
        ARMADA_FAKE_LOG=log,
        ARMADA_FAKE_DELAY=0.03,
    )
    wait_for_calls(log, 15)
    workers = children(build.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    out, errors = build.communicate(timeout=200)
    assert build.returncode == 3, errors
    assert "another one takes its place" in errors
    expected, report = one_process
    assert content(tmp_path / "cache") == expected
    assert len(set(lines(log))) == ROWS
    assert len(lines(log)) <= ROWS + 1, "only the call in flight is repeated"
    found = json.loads(out)
    assert ROWS <= found["calls"] == found["calls_total"] <= ROWS + 2
    for name in ("rows", "unique_prompts", "drawn", "failed", "encoded", "features_refused", "stopped"):
        assert found[name] == report[name], name
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_new_encoder_reads_each_tar_in_one_worker_and_no_picture_twice(tmp_path):
    prompts, cache = write_prompts(tmp_path, 200), tmp_path / "cache"
    assert armada(*words(prompts, cache, "--shard-rows", 16)).returncode == 3
    other = [str(word).replace("FakeEncoder", "FakeEncoder?version=2") for word in words(prompts, cache)]
    built = armada(*other, "--workers", 2)
    assert built.returncode == 3, built.stderr
    assert json.loads(built.stdout)["encoded"] == 190
    assert json.loads(built.stdout)["calls"] == 0
    read = Cache(str(cache))
    tars = {
        key: shard.path
        for shard in read.shards("images/")
        for key in read.table(shard, ["image_key"])["image_key"].to_pylist()
    }
    (teacher,) = read.teachers()
    new = next(one for one in read.encoders(teacher) if one.spec["version"] == "2")
    shards = read.shards(f"features/{teacher.name}/{new.name}/")
    readers = {}
    for shard in shards:
        for key in read.table(shard, ["image_key"])["image_key"].to_pylist():
            readers.setdefault(tars[key], set()).add(shard.path)
    assert len(set(tars.values())) > 5
    assert len(shards) > 2
    assert {len(paths) for paths in readers.values()} == {1}, "a tar is read for one shard of features"
    assert sum(shard.rows for shard in shards) == 190


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_stopped_build_is_continued_without_a_call_for_what_it_had(tmp_path, one_process, number, code):
    prompts, cache, log = tmp_path / "prompts.txt", tmp_path / "cache", tmp_path / "log"
    build = start(*words(prompts, cache, "--workers", 2), ARMADA_FAKE_LOG=log, ARMADA_FAKE_DELAY=0.05)
    wait_for_calls(log, 15)
    workers = children(build.pid)
    build.send_signal(number)
    out, errors = build.communicate(timeout=100)
    assert build.returncode == code, errors
    deadline = time.monotonic() + 30
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    made = len(lines(log))
    assert made < ROWS
    if number != signal.SIGKILL:
        report = json.loads(out)
        assert (report["stopped"], report["calls"]) == ("interrupted", made)
    assert len(content(cache)) == made, "what was drawn is sealed, also if only the workers are left to do it"
    again = armada(*words(prompts, cache, "--workers", 2), ARMADA_FAKE_LOG=log)
    assert again.returncode == 3, again.stderr
    assert content(cache) == one_process[0]
    assert len(lines(log)) == ROWS


@pytest.mark.slow
def test_workers_share_one_budget_and_its_end_has_its_exit_code(tmp_path):
    prompts, cache, log = write_prompts(tmp_path, ROWS), tmp_path / "cache", tmp_path / "log"
    built = armada(*words(prompts, cache, "--workers", 2, "--max-calls", 20), ARMADA_FAKE_LOG=log)
    assert built.returncode == 4, built.stderr
    assert len(lines(log)) == json.loads(built.stdout)["calls"] == 20
    again = armada(*words(prompts, cache, "--workers", 2, "--max-calls", 30), ARMADA_FAKE_LOG=log)
    assert again.returncode == 4
    assert len(lines(log)) == json.loads(again.stdout)["calls_total"] == 30


@pytest.mark.slow
def test_an_error_of_a_worker_ends_the_build_once_and_in_words(tmp_path):
    prompts = write_prompts(tmp_path, ROWS)
    (tmp_path / "own.py").write_text(
        "from tests.fakes import FakeTeacher\nfrom teacher_cache import ArmadaError\n"
        "class Dead(FakeTeacher):\n    def draw(self, requests):\n        next(iter(requests))\n"
        "        raise ArmadaError('the server is dead')\n"
    )
    arguments = [
        str(word).replace("tests.fakes:FakeTeacher", f"{tmp_path}/own.py:Dead")
        for word in words(prompts, tmp_path / "cache", "--workers", 2)
    ]
    built = armada(*arguments)
    assert built.returncode == 2, built.stderr
    assert built.stderr.count("the server is dead") == 1
    assert "Traceback" not in built.stderr
