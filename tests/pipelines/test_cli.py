"""Exit codes, JSON that others can read, and errors in words."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.distill.tiny import save_student
from tests.pipelines.cli import FAKES, ROOT, armada, command, environment, ranks_command, ranks_environment


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"prompt {i}\n" for i in range(12)))
    return path


def test_build_status_and_plan_print_one_json_object(tmp_path, prompts):
    cache = tmp_path / "cache"
    built = armada("cache", "build", prompts, *FAKES, "--cache", cache, "--json")
    assert built.returncode == 0, built.stderr
    assert json.loads(built.stdout)["calls"] == 12
    again = json.loads(armada("cache", "build", prompts, *FAKES, "--cache", cache, "--json").stdout)
    assert (again["calls"], again["calls_total"]) == (0, 12)
    state = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"][0]
    assert (state["pictures"], state["calls"], state["encoders"][0]["features"]) == (12, 12, 12)
    planned = json.loads(armada("cache", "plan", prompts, *FAKES, "--cache", cache, "--limit", 5, "--json").stdout)
    assert (planned["unique_prompts"], planned["calls"]) == (5, 0)


def test_upkeep_commands_print_one_json_object_and_keep_the_rows(tmp_path, prompts):
    cache, other, tars = tmp_path / "c", tmp_path / "other", tmp_path / "tars"
    options = ("--seal-rows", 3, "--shard-rows", 4)
    assert armada("cache", "build", prompts, *FAKES, "--cache", cache, *options).returncode == 0

    def said(*words):
        result = armada("cache", *words, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    assert said("verify", cache, "--recompute", 2)["problems"] == []
    done = said("compact", cache, "--vacuum")
    assert done["shards_after"] < done["shards_before"]
    said("merge", cache, other)
    said("export", other, tars, "--to", "webdataset")
    state = json.loads(armada("cache", "status", tars, "--json").stdout)["teachers"][0]
    assert (state["pictures"], state["encoders"][0]["features"]) == (12, 12)
    shard = next(iter((cache / "images").rglob("*.tar")))
    shard.write_bytes(shard.read_bytes()[:-600])
    broken = armada("cache", "verify", cache, "--json")
    assert broken.returncode == 3
    assert shard.name in json.loads(broken.stdout)["problems"][0]["path"]


def test_every_command_that_the_readme_names_is_there():
    readme = (ROOT / "README.md").read_text("utf-8")
    named = set(re.findall(r"^armada ((?:cache )?[a-z]+)", readme, re.MULTILINE))
    assert {"cache build", "cache verify", "study", "report"} <= named
    for command_words in sorted(named):
        shown = armada(*command_words.split(), "--help")
        assert shown.returncode == 0, command_words


def test_status_tells_how_much_of_a_task_is_covered(tmp_path):
    built = armada("cache", "build", "demo/sentiment", *FAKES, "--cache", tmp_path / "c", "--limit", 20)
    assert built.returncode == 0, built.stderr
    state = json.loads(armada("cache", "status", tmp_path / "c", "--json").stdout)
    (task,) = state["tasks"]
    assert (task["task"], task["pictures"], task["features"], task["failed"]) == ("demo/sentiment", 20, 20, 0)
    assert task["prompts"] > 20_000
    assert state["teachers"][0]["per_second"] > 0


def test_failed_rows_are_exit_code_3_and_a_reached_budget_4(tmp_path, prompts):
    with prompts.open("a") as stream:
        stream.write("[refused] something\n")
    budget = armada("cache", "build", prompts, *FAKES, "--cache", tmp_path / "c", "--max-calls", 3)
    assert budget.returncode == 4
    assert "the budget is reached" in budget.stderr
    failed = armada("cache", "build", prompts, *FAKES, "--cache", tmp_path / "c")
    assert failed.returncode == 3
    assert "refused 1" in failed.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cache", "status", "/nowhere"), "no cache here"),
        (("cache", "build", "prompts.xlsx", *FAKES, "--cache", "/tmp/none"), "no such file|expected a file ending"),
        (("cache", "build", "demo/nothing", *FAKES, "--cache", "/tmp/none"), "neither a file nor a task"),
        (("tasks", "nothing"), "no task 'nothing'; known: demo/sentiment"),
        (("train", "--task", "demo/sentiment", "--student", "minilm", "--out", "/tmp/none"), "--cache URL is missing"),
        (
            ("train", "--task", "demo/sentiment", "--student", "minilm", "--out", "/tmp/n", "--manifold", "flat"),
            "--manifold: expected one of cosine",
        ),
        (
            (
                "train",
                "--task",
                "demo/sentiment",
                "--student",
                "/no/where",
                "--out",
                "/tmp/n",
                "--control",
                "undistilled",
            ),
            "/no/where: no student here",
        ),
    ],
)
def test_bad_usage_is_exit_code_2_in_words_and_no_traceback(words, message):
    import re

    run = armada(*words)
    assert run.returncode == 2, run.stderr
    assert re.search(message, run.stderr), run.stderr
    assert "Traceback" not in run.stderr
    assert not Path("/tmp/none").exists()


def test_sigint_seals_what_is_drawn_and_the_same_command_goes_on(tmp_path, prompts):
    cache, log = tmp_path / "cache", tmp_path / "log"
    words = command("cache", "build", prompts, *FAKES, "--cache", cache)
    process = subprocess.Popen(
        words, env=environment(ARMADA_FAKE_LOG=log, ARMADA_FAKE_DELAY=0.3), stderr=subprocess.PIPE, text=True
    )
    while not log.exists() or len(log.read_text().splitlines()) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "The same command goes on from here" in errors
    drawn = json.loads(armada("cache", "status", cache, "--json").stdout)["teachers"][0]["pictures"]
    assert drawn == len(log.read_text().splitlines())
    assert armada("cache", "build", prompts, *FAKES, "--cache", cache, ARMADA_FAKE_LOG=log).returncode == 0
    calls = log.read_text().splitlines()
    assert len(calls) == len(set(calls)) == 12


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A cache of twenty labelled rows, a tiny student, and a run of it."""
    folder = tmp_path_factory.mktemp("train")
    rows = [f"good plane number {i},{('negative', 'neutral', 'positive')[i % 3]}" for i in range(20)]
    data = folder / "rows.csv"
    data.write_text("text,sentiment\n" + "\n".join(rows) + "\n")
    student = save_student(folder / "student")
    built = armada("cache", "build", data, *FAKES, "--cache", folder / "cache")
    assert built.returncode == 0, built.stderr
    words = ("train", "--task", "demo/sentiment", "--student", student, "--cache", folder / "cache", "--batch-size", 8)
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
    import shutil

    import pyarrow.parquet as parquet

    from teacher_cache import Cache

    folder, data, words, _ = trained
    copy = folder / "copy"
    shutil.copytree(folder / "cache", copy)
    cache = Cache(str(copy))
    (shard,) = cache.shards("features")
    table = parquet.read_table(copy / shard.path)
    smaller = cache.write_shard(shard.path.rpartition("/")[0], table.slice(1))
    cache.commit([smaller], by="test", at="now", replaced=[shard.path])
    words = [copy if word == folder / "cache" else word for word in words]
    run = armada(*words, "--data-files", data, "--out", folder / "removed")
    assert run.returncode == 2
    assert "coverage: 19 of 20 training rows have a feature" in run.stderr
    assert not (folder / "removed").exists()


def test_the_run_leaves_a_plain_checkpoint_and_nothing_of_the_teaching(trained):
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    folder = trained[0]
    names = sorted(path.name for path in (folder / "run").iterdir())
    assert names == ["metrics.jsonl", "run.json", "student"]
    model = AutoModelForSequenceClassification.from_pretrained(folder / "run" / "student")
    assert model.config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
    weights = load_file(folder / "run" / "student" / "model.safetensors")
    assert set(weights) == set(load_file(folder / "student" / "model.safetensors"))


def test_undistilled_needs_no_cache(trained):
    folder, data, _, _ = trained
    words = ("train", "--task", "demo/sentiment", "--student", folder / "student", "--control", "undistilled")
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
    assert sorted(path.name for path in (folder / "two").iterdir()) == ["metrics.jsonl", "run.json", "student"]
    assert len((folder / "two" / "metrics.jsonl").read_text().splitlines()) == 9


def test_the_papers_recipe_picks_its_epoch_on_the_reported_split_and_says_so(trained, tmp_path):
    folder, data, words, _ = trained
    deep = save_student(tmp_path / "deep", layers=7)
    words = [deep if word == folder / "student" else word for word in words]
    options = ("--data-files", data, "--out", tmp_path / "paper", "--recipe", "paper", "--max-steps", 6)
    run = armada(*words, *options, "--track", "tensorboard")
    assert run.returncode == 0, run.stderr
    facts = json.loads((tmp_path / "paper" / "run.json").read_text())
    settings = facts["identity"]["settings"]
    assert (settings["epochs"], settings["batch_size"], settings["lr"], settings["schedule"]) == (
        10,
        8,
        2e-5,
        "constant",
    )
    assert facts["identity"]["aligner"]["width"] == 768
    assert facts["identity"]["student"]["layers"] == 6
    assert facts["selected"]["by"] == "test"
    assert facts["selected"]["epoch"] in (0, 1)
    assert "the reported split, as the paper does" in (tmp_path / "paper" / "student" / "README.md").read_text()
    assert list((tmp_path / "paper" / "trackers").glob("events.*"))


def test_a_killed_run_goes_on_by_the_same_command_and_another_cache_is_refused(trained):
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


def test_several_pictures_a_prompt_are_asked_for_by_the_mending_command_and_then_taught(trained):
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
    assert "several pictures a prompt are joined in memory" in in_windows.stderr
