"""A study from file to report: every run is done once, however often the study is killed."""

import json
import os
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
import yaml

from pipelines.study.config import digest_of
from pipelines.study.run import Run, run_one
from pipelines.study.runner import run_study
from teacher_cache import ArmadaError
from tests.pipelines.cli import armada, command, environment
from tests.pipelines.studies import write_study

RUNS = 3 * 2 + 2 * 2


def facts(out):
    """Return the results without the costs and the commits of the cache, which contain times."""
    found = json.loads((out / "results.json").read_text())
    del found["account"], found["ledger"]["cache"]
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    path = write_study(folder)
    run = armada("study", path, "--out", folder / "out", "--jobs", 2, "--json")
    assert run.returncode == 0, run.stderr
    return path, folder / "out", run


def test_every_arm_seed_and_read_out_is_in_the_results(uninterrupted):
    _, out, run = uninterrupted
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


def test_each_run_is_a_folder_like_that_of_train(uninterrupted):
    folder = uninterrupted[1] / "runs" / "finetune" / "relational-seed1"
    found = {path.name for path in folder.iterdir()}
    assert {"run.json", "metrics.jsonl", "outcome.json", "predictions.npz"} <= found
    assert "student" not in found, "nobody asked to keep it"
    assert json.loads((folder / "run.json").read_text())["settings"]["student"]["seed"] == 1


@pytest.mark.parametrize("keeps", [True, False])
def test_the_weights_of_a_run_go_when_its_outcome_is_written_unless_they_are_wanted(tmp_path, monkeypatch, keeps):
    def trained(*_):
        for place in (tmp_path, tmp_path / "pretrained"):
            (place / "student").mkdir(parents=True)
            (place / "student" / "model.safetensors").write_bytes(b"weights")
            (place / "run.json").write_text("{}")
        assert not (tmp_path / "outcome.json").exists()
        return {}, [0.5], 1.0

    monkeypatch.setattr("pipelines.study.run._finetune", trained)
    splits = SimpleNamespace(test=SimpleNamespace(ids=[]))
    run_one(None, Run("finetune", "a", 0), tmp_path, "", splits, keeps_students=keeps)
    assert [(place / "student").exists() for place in (tmp_path, tmp_path / "pretrained")] == [keeps, keeps]
    assert (tmp_path / "outcome.json").exists()
    assert (tmp_path / "pretrained" / "run.json").exists()


def test_output_outside_a_terminal_is_plain_lines(uninterrupted):
    stderr = uninterrupted[2].stderr
    assert "\x1b" not in stderr
    assert f"[{RUNS}/{RUNS}] few_shot/" in stderr
    assert "min left" in stderr


@pytest.mark.slow
@pytest.mark.faults
def test_a_study_killed_three_times_gives_the_report_of_an_uninterrupted_one(uninterrupted, tmp_path):
    path, whole, _ = uninterrupted
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
def test_a_killed_study_leaves_no_running_process(uninterrupted, tmp_path):
    path, out = uninterrupted[0], tmp_path / "out"
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
    """Return the processes that have a run's log open."""
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                files = [os.readlink(f"/proc/{process}/fd/{number}") for number in (1, 2)]
            except OSError:
                continue
            found += [process] if any(file.startswith(str(out)) for file in files) else []
    return found


def test_a_finished_study_again_trains_nothing(uninterrupted, monkeypatch):
    path, out, _ = uninterrupted
    monkeypatch.setattr("pipelines.study.runner._run_in_process", lambda *_: pytest.fail("ran again"))
    lines = []
    assert run_study(path, out, say=lines.append)
    assert f"{RUNS} runs: {RUNS} finished, 0 to do, 1 at once" in lines


def test_two_studies_in_one_folder_at_once_are_refused(uninterrupted, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(ArmadaError, match="another armada study is running here"):
        run_study(uninterrupted[0], tmp_path / "out")


def test_a_failed_run_is_named_with_its_log_and_the_others_are_done(tmp_path):
    arms = {
        "undistilled": {"control": "undistilled"},
        "relational": {},
        "shuffled": {"control": "shuffled"},
        "noise": {"control": "noise", "max_local_bytes": 1},  # this control needs all features in memory
    }
    path = write_study(tmp_path, arms=arms, readouts={}, seeds=[0])
    run = armada("study", path, "--out", tmp_path / "out")
    assert run.returncode == 3, run.stderr
    assert "finetune/noise-seed0: failed" in run.stderr
    assert "--max-local-bytes" in (tmp_path / "out" / "runs" / "finetune" / "noise-seed0" / "log.txt").read_text()
    assert facts(tmp_path / "out")["finished"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": "nothing/here"}, "nothing/here"),
        (
            {
                "settings": {"epochs": 1},
                "arms": {
                    "undistilled": {"control": "undistilled"},
                    "relational": {"layers": 9},
                    "shuffled": {"control": "shuffled"},
                },
            },
            "--layers: expected 1 to",
        ),
    ],
)
def test_a_student_that_cannot_do_the_task_is_found_before_the_first_call(tmp_path, changes, message):
    path = write_study(tmp_path, readouts={}, seeds=[0], **changes)
    with pytest.raises(ArmadaError, match=message):
        run_study(path, tmp_path / "out")
    assert not (tmp_path / "out" / "cache").exists()


def test_a_mended_study_keeps_the_runs_and_pictures_that_it_still_asks_for(uninterrupted, tmp_path, monkeypatch):
    """The metric is mended and one arm gets another setting: only that arm's runs are done again, no picture is."""
    path, whole, _ = uninterrupted
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    study = yaml.safe_load(path.read_text())
    study["student"] = str(path.parent / "student")
    study["primary"]["metric"] = "macro_f1"
    study["arms"]["shuffled"]["alpha"] = 0.3
    mended = tmp_path / "study.yaml"
    mended.write_text(yaml.safe_dump(study, sort_keys=False))
    before = {path.relative_to(out): path.stat().st_mtime_ns for path in out.glob("runs/*/*/outcome.json")}
    run = armada("study", mended, "--out", out, "--json")
    assert run.returncode == 0, run.stderr
    assert f"{RUNS} runs: {RUNS - 2} finished, 2 to do" in run.stderr
    assert " 0 calls now" in run.stderr
    again = {path for path, then in before.items() if (out / path).stat().st_mtime_ns != then}
    assert {path.parent.name for path in again} == {"shuffled-seed0", "shuffled-seed1"}
    assert len(list(out.glob("replaced/finetune/shuffled-seed*/outcome.json"))) == 2
    found = json.loads((out / "results.json").read_text())
    assert found["file_sha256"] == digest_of(mended.read_bytes())
    assert any(digest_of(path.read_bytes()) in change for change in found["changes"])
    outcome = json.loads((out / "runs" / "finetune" / "relational-seed1" / "outcome.json").read_text())
    value = next(one for one in found["measured"] if (one["readout"], one["arm"]) == ("finetune", "relational"))
    assert value["values"][1] == outcome["readouts"]["finetune"]["macro_f1"]


def test_the_report_warns_if_the_file_changed_after_the_results(uninterrupted):
    path, out, _ = uninterrupted
    text = path.read_text()
    try:
        path.write_text(text.replace("margin: 0.01", "margin: 0.5"))
        reported = json.loads(armada("report", out, "--json").stdout)
    finally:
        path.write_text(text)
    assert "changed after these results" in reported["changes"]
    assert json.loads((out / "results.json").read_text())["changes"]
    assert json.loads(armada("report", out, "--json").stdout)["changes"] == ""


def test_a_study_stops_at_max_calls_and_continues_once_it_is_raised(tmp_path):
    changes = {"readouts": {}, "seeds": [0], "samples": 2, "combine": "draw"}
    path, out = write_study(tmp_path, **changes, max_calls=30), tmp_path / "out"
    stopped = armada("study", path, "--out", out)
    assert stopped.returncode == 4
    assert "max_calls: all 30 calls are made, and pictures are still missing" in stopped.stderr
    again = armada("study", write_study(tmp_path, **changes, max_calls=48), "--out", out)
    assert again.returncode == 0, again.stderr
    assert "18 calls now, 48 in all" in again.stderr
