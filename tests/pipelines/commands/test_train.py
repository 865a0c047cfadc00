"""`armada train` from a cache to a record: it resumes, and refuses what does not fit before the first step."""

import json
import re
import shutil
import subprocess
import time

import pyarrow.parquet as parquet
import pytest

from teacher_cache import Cache
from tests.distill.tiny import save_student
from tests.pipelines.cli import FAKES, armada, command, environment, ranks_command, ranks_environment
from tests.pipelines.studies import write_card


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a folder with a cache of 20 labelled rows and a run of a tiny student; the rows, the command, the run."""
    folder = tmp_path_factory.mktemp("train")
    rows = [f"good plane number {i},{('negative', 'neutral', 'positive')[i % 3]}" for i in range(20)]
    data = folder / "rows.csv"
    data.write_text("text,sentiment\n" + "\n".join(rows) + "\n")
    student = save_student(folder / "student")
    built = armada("cache", "build", data, *FAKES, "--cache", folder / "cache")
    assert built.returncode == 0, built.stderr
    card = write_card(folder)
    words = ("train", "--task", card, "--student", student, "--cache", folder / "cache", "--batch-size", 8)
    run = armada(*words, "--data-files", data, "--out", folder / "run", "--json")
    assert run.returncode == 0, run.stderr
    return folder, data, words, run


def test_train_writes_a_run_with_its_facts(trained):
    folder, _, _, run = trained
    facts = json.loads((folder / "run" / "run.json").read_text())
    assert json.loads(run.stdout)["metrics"] == facts["metrics"]["test"]
    assert set(facts["metrics"]["test"]) == {"accuracy", "macro_f1"}
    assert facts["coverage"]["found"] == facts["rows"]["train"] == 20
    assert facts["parameters"]["added_at_inference"] == 0
    assert len(facts["epochs"]) == 3


def test_the_same_run_again_does_nothing_and_another_there_is_refused(trained):
    folder, data, words, run = trained
    again = armada(*words, "--data-files", data, "--out", folder / "run", "--json")
    assert json.loads(again.stdout) == {**json.loads(run.stdout), "reused": True}
    other = armada(*words, "--data-files", data, "--out", folder / "run", "--lr", 1e-3)
    assert other.returncode == 2
    assert "run.json: another run is here: settings.lr was 5e-05, now 0.001" in other.stderr


def test_one_row_added_after_the_build_stops_before_the_first_step(trained):
    folder, data, words, _ = trained
    more = folder / "more.csv"
    more.write_text(data.read_text() + "a text that was never drawn,neutral\n")
    run = armada(*words, "--data-files", more, "--out", folder / "more")
    assert run.returncode == 2
    assert "coverage: 20 of 21 training rows have a feature" in run.stderr
    assert "a text that was never drawn" in run.stderr
    assert f"armada cache build {more}" in run.stderr
    assert not (folder / "more").exists()
    dropped = armada(*words, "--data-files", more, "--out", folder / "dropped", "--missing", "drop", "--max-steps", 1)
    assert dropped.returncode == 0, dropped.stderr


def test_one_removed_feature_stops_before_the_first_step(trained):
    folder, data, words, _ = trained
    copy = folder / "copy"
    shutil.copytree(folder / "cache", copy)
    cache = Cache(str(copy))
    (shard,) = cache.shards("features")
    table = parquet.read_table(copy / shard.path)
    smaller = cache.write_shard(shard.path.rpartition("/")[0], table.slice(1))
    cache.commit([smaller], by="test", at="now", replaced=cache.state.entries_of([shard]))
    words = [copy if word == folder / "cache" else word for word in words]
    run = armada(*words, "--data-files", data, "--out", folder / "removed")
    assert run.returncode == 2
    assert "coverage: 19 of 20 training rows have a feature" in run.stderr
    assert not (folder / "removed").exists()


def test_the_run_leaves_a_plain_checkpoint_and_nothing_of_the_distillation(trained):
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    folder = trained[0]
    names = sorted(path.name for path in (folder / "run").iterdir())
    assert names == ["card.yaml", "metrics.jsonl", "run.json", "student"]
    model = AutoModelForSequenceClassification.from_pretrained(folder / "run" / "student")
    assert model.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
    weights = load_file(folder / "run" / "student" / "model.safetensors")
    assert set(weights) == set(load_file(folder / "student" / "model.safetensors"))


def test_undistilled_needs_no_cache(trained):
    folder, data, _, _ = trained
    words = ("train", "--task", folder / "sentiment.yaml", "--student", folder / "student", "--control", "undistilled")
    run = armada(*words, "--data-files", data, "--out", folder / "plain", "--batch-size", 8)
    assert run.returncode == 0, run.stderr
    assert json.loads((folder / "plain" / "run.json").read_text())["identity"]["view_digest"] is None


def test_two_processes_train_one_student_and_write_one_record(trained):
    folder, data, words, _ = trained
    options = ["--data-files", data, "--out", folder / "two", "--json", "--select", "validation"]
    run = subprocess.run(
        ranks_command(2, "pipelines.cli", *words, *options),
        env=ranks_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    facts = json.loads((folder / "two" / "run.json").read_text())
    assert facts["ranks"] == 2
    assert json.loads(run.stdout)["metrics"] == facts["metrics"]["test"]
    assert sorted(path.name for path in (folder / "two").iterdir()) == [
        "card.yaml",
        "metrics.jsonl",
        "run.json",
        "student",
    ]
    assert len((folder / "two" / "metrics.jsonl").read_text().splitlines()) == 9


def test_the_papers_recipe_selects_its_epoch_on_the_reported_split_and_records_it(trained, tmp_path):
    folder, data, words, _ = trained
    deep = save_student(tmp_path / "deep", layers=7)
    words = [deep if word == folder / "student" else word for word in words]
    options = ("--data-files", data, "--out", tmp_path / "paper", "--recipe", "paper", "--max-steps", 6)
    run = armada(*words, *options, "--track", "tensorboard")
    assert run.returncode == 0, run.stderr
    facts = json.loads((tmp_path / "paper" / "run.json").read_text())
    settings = facts["settings"]["student"]
    assert (settings["epochs"], settings["batch_size"], settings["lr"], settings["schedule"]) == (
        10,
        8,
        2e-5,
        "constant",
    )
    assert facts["settings"]["aligner"]["width"] == 768
    assert facts["identity"]["student"]["layers"] == 6
    assert facts["selected"]["by"] == "test"
    assert facts["selected"]["epoch"] in (0, 1)
    assert "the reported split, as the paper does" in (tmp_path / "paper" / "student" / "README.md").read_text()
    assert list((tmp_path / "paper" / "trackers").glob("events.*"))


def test_a_killed_run_resumes_by_the_same_command_and_another_cache_is_refused(trained):
    folder, data, words, _ = trained
    whole = json.loads((folder / "run" / "run.json").read_text())
    out = folder / "killed"
    command_words = command(*words, "--data-files", data, "--out", out, "--save-steps", 1)
    process = subprocess.Popen(command_words, env=environment(), stderr=subprocess.DEVNULL)
    while not list(out.glob("checkpoints/step-*.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (out / "run.json").exists()
    other = folder / "other-cache"
    built = armada("cache", "build", data, "--teacher", "tests.fakes:FakeTeacher?style=b", *FAKES[2:], "--cache", other)
    assert built.returncode == 0, built.stderr
    elsewhere = [other if word == folder / "cache" else word for word in words]
    refused = armada(*elsewhere, "--data-files", data, "--out", out)
    assert refused.returncode == 2
    assert "another run is here: features.teacher was" in refused.stderr
    again = armada(*words, "--data-files", data, "--out", out)
    assert again.returncode == 0, again.stderr
    assert (out / "metrics.jsonl").read_text() == (folder / "run" / "metrics.jsonl").read_text()
    assert json.loads((out / "run.json").read_text())["metrics"] == whole["metrics"]


def test_features_over_the_local_limit_are_read_from_the_shards(trained):
    folder, data, words, _ = trained
    run = armada(*words, "--data-files", data, "--out", folder / "windows", "--max-local-bytes", 100)
    assert run.returncode == 0, run.stderr
    facts = json.loads((folder / "windows" / "run.json").read_text())
    whole = json.loads((folder / "run" / "run.json").read_text())
    assert facts["identity"]["view_digest"] != whole["identity"]["view_digest"]
    assert facts["coverage"] == whole["coverage"]


def test_training_on_several_pictures_per_prompt_needs_them_in_the_cache_and_names_the_command(trained):
    folder, data, words, _ = trained
    several = (*words, "--data-files", data, "--samples", 2, "--combine")
    refused = armada(*several, "draw", "--out", folder / "draw")
    assert refused.returncode == 2
    assert "0 of 20 training rows have features of 2 pictures" in refused.stderr
    assert re.search(r"armada cache build .*rows.csv .*--samples 2", refused.stderr)
    built = armada("cache", "build", data, *FAKES, "--cache", folder / "cache", "--samples", 2, "--json")
    assert json.loads(built.stdout)["calls"] == 20
    digests = set()
    for combine in ("mean", "draw"):
        run = armada(*several, combine, "--out", folder / combine)
        assert run.returncode == 0, run.stderr
        identity = json.loads((folder / combine / "run.json").read_text())["identity"]
        assert identity["pictures"] == {"samples": 2, "combine": combine}
        digests.add(identity["view_digest"])
    assert len(digests) == 2
    in_windows = armada(*several, "mean", "--out", folder / "never", "--max-local-bytes", 100)
    assert "several pictures per prompt are joined in memory" in in_windows.stderr
