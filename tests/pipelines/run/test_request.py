"""Values of a run are checked in one place, whoever gives them: command line, configuration, study file, Python."""

from pathlib import Path

import pytest

from pipelines.run.request import check_request, check_values, make_request
from teacher_cache import ArmadaError
from tests.pipelines.cli import armada

RUN = {"task": "demo/sentiment", "student": "minilm", "control": "undistilled"}


@pytest.fixture
def places(tmp_path):
    (tmp_path / "file").write_text("")
    return {"file": tmp_path / "file", "under a file": tmp_path / "file" / "run", "new": tmp_path / "a" / "b"}


def check(**values):
    check_request(make_request({**RUN, **values}))


@pytest.mark.parametrize("name", ["file", "under a file"])
def test_a_run_is_not_written_where_a_file_is(places, name):
    with pytest.raises(ArmadaError, match=r"--out .*: expected a folder, or a place for one, found a file at .*/file"):
        check(out=places[name])
    check(out=places["new"])


@pytest.mark.parametrize("name", ["out", "data_files"])
def test_a_path_of_nothing_is_refused(name):
    for nothing in ("", " "):
        with pytest.raises(ArmadaError, match=f"{name}: expected a path, found nothing"):
            make_request({**RUN, "out": "run", name: nothing})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"track": "tensorbord"}, "--track: expected one of .*tensorboard.*, found 'tensorbord'"),
        ({"track": "comet_ml"}, "--track comet_ml: its package is not installed: pip install comet_ml"),
        ({"lora_targets": "query"}, "--lora-targets: expected --lora-rank N beside it"),
        ({"lora_targets": "", "lora_rank": 2}, "--lora-targets: expected names of layers, found none"),
        ({"accumulate": 33}, r"--accumulate: expected at most as many parts as the batch has rows \(32\), found 33"),
        ({"base_precision": "bf16"}, "--base-precision bf16: expected --lora-rank N beside it"),
        (
            {"base_precision": "bf16", "lora_rank": 2, "precision": "fp32"},
            "--base-precision bf16: expected --precision bf16 or auto, found fp32",
        ),
        ({"precision": "fp8"}, "--precision: expected one of auto, bf16, fp16, fp32, found 'fp8'"),
        ({"regression": "sigmoid"}, "--regression: expected one of standardised, relu, found 'sigmoid'"),
        ({"alpha": float("nan")}, "--alpha: expected a finite number, found nan"),
        ({"beta": -1.0}, "--beta: expected at least 0"),
        ({"aligner_lr": float("inf")}, "--aligner-lr: expected a finite number, found inf"),
        ({"seed": 12345678901234567890}, "--seed: expected at most"),
        ({"control": None}, "--cache URL is missing"),
        ({"control": None, "cache": " "}, "--cache: expected a folder or a URL, found nothing"),
    ],
)
def test_a_value_that_can_not_be_is_refused_in_words(tmp_path, wrong, message):
    with pytest.raises(ArmadaError, match=message):
        check(**{"out": tmp_path / "run", **wrong})


def test_a_file_is_no_cache(places, tmp_path):
    with pytest.raises(ArmadaError, match=r"--cache .*/file: expected a folder or a URL, found a file"):
        check(out=tmp_path / "run", cache=str(places["file"]), control=None)


@pytest.mark.parametrize("name", ["alpha", "beta", "lr", "temperature", "weight_decay", "clip_norm", "aligner_angle"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_no_number_of_a_study_file_is_nan_infinite_or_below_its_bound(name, value):
    with pytest.raises(ArmadaError, match=f"{name}: expected"):
        check_values({name: value}, "study.yaml")


def test_the_command_line_says_it_without_a_traceback(places):
    words = ["train", "--task", "demo/sentiment", "--student", "minilm", "--control", "undistilled"]
    run = armada(*words, "--out", "")
    assert (run.returncode, "out: expected a path, found nothing" in run.stderr) == (2, True)
    assert "Traceback" not in run.stderr
    assert not Path("run.json").exists()
