"""A study from file to report: every run once, however often it is killed."""

import json
import os
import signal
import subprocess
import time

import pytest

from pipelines.study.runner import run_study
from teacher_cache import ArmadaError
from tests.pipelines.cli import armada, command, environment
from tests.pipelines.studies import write_study

RUNS = 3 * 2 + 2 * 2


def facts(out):
    """The results but for what was measured by a clock."""
    found = json.loads((out / "results.json").read_text())
    return {name: value for name, value in found.items() if name != "account"}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    path = write_study(folder)
    run = armada("study", path, "--out", folder / "out", "--jobs", 2, "--json")
    assert run.returncode == 0, run.stderr
    return path, folder / "out", run


def test_every_arm_seed_and_read_out_is_in_the_results(unbroken):
    _, out, run = unbroken
    found = facts(out)
    assert (found["finished"], found["planned"]) == (RUNS, RUNS)
    by_readout = {}
    for one in found["measured"]:
        by_readout.setdefault(one["readout"], []).append(one["arm"])
        assert len(one["values"]) == 2
    assert by_readout == {
        "finetune": ["undistilled", "relational", "shuffled"],
        "probe": ["undistilled", "relational", "shuffled"],
        "few_shot": ["undistilled", "relational"],
    }
    primary = [(one["arm"], one["against"]) for one in found["comparisons"] if one["is_primary"]]
    assert primary == [("relational", "undistilled"), ("relational", "shuffled")]
    assert found["verdict"] == "cannot tell"
    assert "2 seeds, and at least 5 are needed" in found["sentence"]
    assert json.loads(run.stdout)["verdict"] == "cannot tell"


def test_each_run_is_a_folder_like_that_of_train(unbroken):
    folder = unbroken[1] / "runs" / "finetune" / "relational-seed1"
    assert {"run.json", "student", "metrics.jsonl", "outcome.json", "predictions.npz"} <= {
        p.name for p in folder.iterdir()
    }
    assert json.loads((folder / "run.json").read_text())["settings"]["student"]["seed"] == 1


def test_what_reads_no_terminal_gets_plain_lines(unbroken):
    stderr = unbroken[2].stderr
    assert "\x1b" not in stderr
    assert f"[{RUNS}/{RUNS}] few_shot/" in stderr
    assert "min left" in stderr


@pytest.mark.faults
def test_a_study_killed_three_times_gives_the_report_of_an_unbroken_one(unbroken, tmp_path):
    path, whole, _ = unbroken
    out = tmp_path / "out"
    words = command("study", path, "--out", out, "--jobs", 2)
    for finished in (1, 4, 7):
        process = subprocess.Popen(words, env=environment(), stderr=subprocess.DEVNULL, start_new_session=True)
        while len(list(out.glob("runs/*/*/outcome.json"))) < finished:
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.wait()
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/outcome.json")}
    assert 7 <= len(before) < RUNS
    again = armada("study", path, "--out", out, "--jobs", 2)
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == then for path, then in before.items()), "a finished run was done twice"
    assert facts(out) == facts(whole)
    assert (out / "report.md").read_text() == (whole / "report.md").read_text()


@pytest.mark.faults
def test_a_killed_study_leaves_no_run_at_work(unbroken, tmp_path):
    path, out = unbroken[0], tmp_path / "out"
    process = subprocess.Popen(command("study", path, "--out", out), env=environment(), stderr=subprocess.DEVNULL)
    while not list(out.glob("runs/*/*/log.txt")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while _processes_of(out) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _processes_of(out)


def _processes_of(out):
    """Processes that have a run's log open."""
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                files = [os.readlink(f"/proc/{process}/fd/{number}") for number in (1, 2)]
            except OSError:
                continue
            found += [process] if any(file.startswith(str(out)) for file in files) else []
    return found


def test_a_finished_study_again_trains_nothing(unbroken, monkeypatch):
    path, out, _ = unbroken
    monkeypatch.setattr("pipelines.study.runner._work", lambda *_: pytest.fail("ran again"))
    said = []
    assert run_study(path, out, say=said.append)
    assert f"{RUNS} runs: {RUNS} finished, 0 to do, 1 at once" in said


def test_two_studies_in_one_folder_at_once_are_refused(unbroken, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ArmadaError, match="another armada study is at work here"):
        run_study(unbroken[0], tmp_path / "out")


def test_a_run_that_fails_is_named_with_its_log_and_the_others_are_done(tmp_path):
    path = write_study(tmp_path, student=str(tmp_path / "nothing"), readouts={}, seeds=[0])
    run = armada("study", path, "--out", tmp_path / "out")
    assert run.returncode == 3, run.stderr
    assert "finetune/undistilled-seed0: failed" in run.stderr
    assert "no student here" in (tmp_path / "out" / "runs" / "finetune" / "shuffled-seed0" / "log.txt").read_text()


def test_a_file_that_changed_after_its_results_is_said_to_have(unbroken):
    path, out, _ = unbroken
    text = path.read_text()
    try:
        path.write_text(text.replace("margin: 0.01", "margin: 0.5"))
        told = json.loads(armada("report", out, "--json").stdout)
    finally:
        path.write_text(text)
    assert "changed after these results" in told["changes"]
    assert json.loads((out / "results.json").read_text())["changes"]
    assert json.loads(armada("report", out, "--json").stdout)["changes"] == ""


def test_a_study_asks_no_more_than_its_calls_and_goes_on_once_they_are_raised(tmp_path):
    changes = {"readouts": {}, "seeds": [0], "samples": 2, "combine": "draw"}
    path, out = write_study(tmp_path, **changes, max_calls=30), tmp_path / "out"
    stopped = armada("study", path, "--out", out)
    assert stopped.returncode == 4
    assert "max_calls: 30 calls are made, and pictures are missing still" in stopped.stderr
    again = armada("study", write_study(tmp_path, **changes, max_calls=48), "--out", out)
    assert again.returncode == 0, again.stderr
    assert "18 calls now, 48 in all" in again.stderr
