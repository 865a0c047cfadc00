"""`armada clean` removes what is computed again and nothing else, whatever lies in a folder and whoever works there."""

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from pipelines import cleaning
from pipelines.cli import app
from pipelines.gallery.catalogue import open_catalogue
from teacher_cache import Cache, build, choose, open_features, verify
from tests.fakes import encoder, teacher

PROMPTS = [f"prompt {i}" for i in range(4)]


@pytest.fixture
def user(tmp_path, monkeypatch):
    """This user's folder of derived data."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))
    return tmp_path / "home" / "cache" / "armada"


@pytest.fixture
def cache(user, tmp_path):
    """A cache that was built, decoded and listed, and whose aligners were kept."""
    made = Cache(str(tmp_path / "work" / "cache"), create=True)
    build(made, PROMPTS, teacher(), encoder())
    open_features(made, *choose(made, None, None))
    open_catalogue(made)
    write(made.derived_folder / "aligners" / "ab" / "epoch-0000-cd.safetensors")
    old(made.derived_folder)
    return made


def write(path, size=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    return path


def old(folder):
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (time.time() - 999,) * 2)


def files(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def clean(*words):
    result = CliRunner().invoke(app, ["clean", *map(str, words), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def run_folder(folder, *, finished=True, outcome=False):
    write(folder / "checkpoints" / "step-00000012.pt")
    write(folder / "checkpoints" / "best-0123456789abcdef.safetensors")
    write(folder / "checkpoints" / "notes.txt")
    write(folder / "student" / "model.safetensors", 1000)
    if finished:
        write(folder / "run.json")
    if outcome:
        write(folder / "outcome.json")
        write(folder / "pretrained" / "run.json")
        write(folder / "pretrained" / "student" / "model.safetensors", 500)
        write(folder / "predictions.npz")
    old(folder)
    return folder


def test_what_was_computed_from_a_cache_is_removed_and_the_cache_stays_whole(cache, user):
    before = files(str(cache.store))
    listed = clean("--dry-run")
    assert {one["what"] for one in listed["removed"]} == {cleaning._MATRIX, "aligners", "lists of the gallery"}
    assert listed["bytes"] == sum(one["bytes"] for one in listed["removed"]) > 0
    assert files(cache.derived_folder) > set()
    assert clean()["bytes"] == listed["bytes"]
    left = files(user)
    assert not [path for path in left if "lock" not in path and "matrices" not in path], left
    assert clean()["removed"] == []
    assert files(str(cache.store)) == before
    assert verify(str(cache.store)).problems == []
    open_features(cache, *choose(cache, None, None))  # is decoded again


def test_features_that_a_process_reads_and_what_was_just_written_are_kept(cache):
    features = open_features(cache, *choose(cache, None, None))
    (kept,) = [one for one in clean()["kept"] if one["what"] == cleaning._MATRIX]
    assert kept["kept"] == "a process reads it"
    assert features.rows is not None
    fresh = write(cache.derived_folder / "aligners" / "ef" / "epoch-0000-01.safetensors")
    kept = {one["path"]: one["kept"] for one in clean()["kept"]}
    assert kept[str(fresh.parent)] == "it was written just now"
    cleaning.remove_derived(cache)  # the demo knows that nobody needs them any more
    assert not fresh.exists()


def test_of_runs_the_checkpoints_of_finished_ones_are_removed_and_of_read_ones_the_students(user, tmp_path):
    root = tmp_path / "out"
    plain, unfinished = run_folder(root / "plain"), run_folder(root / "unfinished", finished=False)
    read = run_folder(root / "runs" / "finetune" / "shuffled-seed0", outcome=True)
    found = clean(root)
    assert files(plain) == {"run.json", "student/model.safetensors", "checkpoints/notes.txt"}
    assert "checkpoints/step-00000012.pt" in files(unfinished)
    assert files(read) == {
        "run.json",
        "outcome.json",
        "predictions.npz",
        "pretrained/run.json",
        "checkpoints/notes.txt",
    }
    assert found["bytes"] == 200 + 200 + 1500
    reasons = {Path(one["path"]).name: one["kept"] for one in found["kept"]}
    assert reasons["step-00000012.pt"] == "the run is not finished, and goes on from it"
    assert reasons["student"] in ("what the run trained", "the run is not finished")


def test_a_cache_among_runs_is_never_entered_and_nothing_outside_is_reached_by_links(cache, tmp_path):
    root = Path(str(cache.store)).parent
    elsewhere = run_folder(tmp_path / "elsewhere", outcome=True)
    run_folder(Path(str(cache.store)) / "run", outcome=True)  # as a hostile cache might have it
    mine = run_folder(root / "mine", outcome=True)
    (root / "linked").symlink_to(elsewhere)
    for name in ("student", "checkpoints"):
        for path in sorted((mine / name).rglob("*")):
            path.unlink()
        (mine / name).rmdir()
        (mine / name).symlink_to(elsewhere / name)
    before = files(elsewhere), files(str(cache.store))
    found = clean(root)
    assert (files(elsewhere), files(str(cache.store))) == before
    assert str(cache.store) in {one["path"] for one in found["kept"]}
    assert all(Path(one["path"]).is_relative_to(tmp_path) for one in found["removed"])


def test_a_study_that_is_running_is_kept(user, tmp_path):
    run = run_folder(tmp_path / "study" / "runs" / "finetune" / "a-seed0", outcome=True)
    write(tmp_path / "study" / "study.json")
    with FileLock(tmp_path / "study" / ".lock"):
        found = clean(tmp_path / "study")
    assert [one["kept"] for one in found["kept"]] == ["it is running"]
    assert "student/model.safetensors" in files(run)
    assert clean(tmp_path / "study")["bytes"] > 1000


def test_waiting_pictures_and_foreign_folders_are_kept(user, tmp_path):
    spool = write(tmp_path / "home" / "state" / "armada" / "spools" / "here" / "spool.sqlite")
    foreign = write(user / "caches" / "my-own-cache" / "matrices" / "a" / "in-use")
    student = write(user / "students" / "smollm2" / "model.safetensors")
    old(tmp_path / "home")
    found = clean()
    assert spool.exists()
    assert foreign.exists()
    assert student.exists()
    assert found["removed"] == []
    assert {one["what"] for one in found["kept"]} == {"spools", "students"}


def test_a_folder_that_is_not_there_is_an_error_and_words_say_what_is_removed(cache, tmp_path):
    result = CliRunner().invoke(app, ["clean", str(tmp_path / "nope")])
    assert "expected a folder of runs" in str(result.exception)
    said = CliRunner().invoke(app, ["clean"], catch_exceptions=False).stdout
    assert "removed" in said.splitlines()[0]
    assert said.splitlines()[-1].endswith(" were removed")
