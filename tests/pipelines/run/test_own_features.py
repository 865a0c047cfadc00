"""A run with features of one's own: without a cache, named by what it is taught with, like a run with a cache."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from pipelines.run.request import make_request
from pipelines.run.training import run_training
from teacher_cache import ArmadaError
from tests.distill.tiny import save_student, split
from tests.pipelines.cli import armada, command, environment, ranks_command, ranks_environment

CLASSES = ("negative", "neutral", "positive")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_student(home / "student", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (home / "data").mkdir()
    for name in ("train", "validation", "test"):
        rows = [{"text": f"{name} {text}", "sentiment": CLASSES[n % 3]} for n, text in enumerate(split(24).prompts)]
        (home / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = [f"train {text}" for text in split(24).prompts]
    values = np.random.default_rng(0).standard_normal((24, 8)).astype(np.float32)
    np.save(home / "own.npy", values)
    (home / "own.npy.keys.txt").write_text("".join(f"{prompt}\n" for prompt in prompts))
    order = np.random.default_rng(1).permutation(24)
    table = {"text": [prompts[row] for row in order], "embedding": pa.array(list(values[order]))}
    parquet.write_table(pa.table(table), home / "moved.parquet")
    values[3] += 1
    parquet.write_table(pa.table({"text": prompts, "embedding": pa.array(list(values))}), home / "changed.parquet")
    return home


def options(home, **changes):
    found = {
        "task": "demo/sentiment", "data_files": str(home / "data"), "student": str(home / "student"), "lr": 1e-3,
        "features": str(home / "own.npy"), "epochs": 2, "batch_size": 8, "precision": "fp32", "dropout": 0.0,
        "out": str(home / "run"),
    }  # fmt: skip
    return {**found, **changes}


def run(home, **changes):
    return run_training(make_request(options(home, **changes)))


def test_a_run_is_named_by_its_features_and_not_by_their_file_or_its_order(home):
    result = run(home)
    record = json.loads((home / "run" / "run.json").read_text())
    assert record["identity"]["features"] == {"teacher": "own-features", "encoder": "own-features", "dimension": 8}
    assert record["coverage"]["found"] == 24
    assert len(record["features"]["digest"]) == 64
    again = run(home, features=str(home / "moved.parquet"))
    assert again.reused
    assert again.metrics == result.metrics
    with pytest.raises(ArmadaError, match="another run is here: view_digest was"):
        run(home, features=str(home / "changed.parquet"))


@pytest.mark.slow
@pytest.mark.faults
def test_a_run_killed_in_the_middle_of_an_epoch_goes_on_by_the_same_command(home, tmp_path):
    """With a dozen options in a file, one of which a flag overrides."""
    said = options(
        home, early_stopping_patience=2, schedule="cosine", warmup_steps=2, label_smoothing=0.1, save_steps=1
    )
    said |= {"class_weights": "balanced", "no_decay": "biases-and-norms", "epochs": 40, "gradient_checkpointing": True}
    del said["out"]
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(said))
    words = ["train", "--config", config, "--lr", "1e-5", "--no-gradient-checkpointing"]
    process = subprocess.Popen(command(*words, "--out", tmp_path / "killed"), env=environment(), stderr=subprocess.PIPE)
    while len(list((tmp_path / "killed" / "checkpoints").glob("step-*[1245].pt"))) < 2:  # 3 steps are an epoch
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "run.json").exists()
    for name in ("killed", "whole"):
        done = armada(*words, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("killed", "whole")]
    assert logs[0] == logs[1]
    killed, whole = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("killed", "whole"))
    for key in ("identity", "metrics", "selected"):
        assert killed[key] == whole[key]
    settings = whole["settings"]["student"]
    assert (settings["lr"], settings["schedule"], settings["select"]) == (1e-5, "cosine", "validation")
    assert whole["gradient_checkpointing"] is False
    assert len(whole["epochs"]) == whole["selected"]["epoch"] + 3  # the best, and the two that it waited for


@pytest.mark.slow
def test_two_processes_share_the_file_stop_early_together_and_give_the_result_of_one(home, tmp_path):
    said = options(
        home, early_stopping_patience=1, epochs=30, lr=1e-9, class_weights="3,1,1", out=str(tmp_path / "two")
    )
    (tmp_path / "run.yaml").write_text(json.dumps(said))
    words = ranks_command(2, "pipelines.cli", "train", "--config", tmp_path / "run.yaml")
    two = subprocess.run(words, env=ranks_environment(), capture_output=True, text=True, timeout=240)
    assert two.returncode == 0, two.stderr
    alone = run_training(make_request({**said, "out": str(tmp_path / "one")}))
    one, both = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two"))
    assert (both["ranks"], len(both["epochs"]), both["selected"]["epoch"]) == (2, 2, 0)
    assert both["metrics"]["test"] == alone.metrics
    assert [epoch["loss"] for epoch in both["epochs"]] == pytest.approx(
        [epoch["loss"] for epoch in one["epochs"]], 1e-5
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cache": "c"}, "--features: expected no --cache beside it"),
        ({"teacher": "pictogram"}, "--features: expected no --teacher beside it"),
        ({"features": "f.csv"}, r"--features: expected a file ending in \.npy or \.parquet, found f\.csv"),
        ({"control": "text-embedding"}, "--control text-embedding: expected --cache with features of text:minilm"),
        ({"features": "f.parquet", "max_local_bytes": 9}, r"--max-local-bytes: expected a \.npy file"),
        (
            {"features": "f.parquet", "feature_keys": "k.txt"},
            r"--feature-keys: expected --features FILE\.npy beside it",
        ),
        ({"features": None, "feature_keys": "k.txt", "cache": "c"}, "--feature-keys: expected --features"),
        ({"features": None}, "--cache URL is missing, or --features FILE"),
    ],
)
def test_options_that_contradict_features_of_ones_own_are_refused(home, tmp_path, changes, message):
    with pytest.raises(ArmadaError, match=message):
        run(home, out=str(tmp_path / "run"), **changes)


def test_a_control_trains_with_the_file_as_with_a_cache(home, tmp_path):
    real, shuffled = (
        run(home, out=str(tmp_path / str(control)), control=control, epochs=1) for control in (None, "shuffled")
    )
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("None", "shuffled")]
    assert logs[0] != logs[1]
    assert real.metrics.keys() == shuffled.metrics.keys()
