"""Every option of `armada train` has one declaration, which the command line, `--config` and Python read."""

import json
import re
from pathlib import Path

import pytest

from distill.settings import PAPER_ALIGNER, PAPER_SETTINGS, AlignerSettings, TrainSettings
from pipelines.run.request import RunRequest, check_request, make_request, train_options
from teacher_cache import ArmadaError
from tests.pipelines.cli import armada

REQUIRED = {"task": "t", "student": "s", "out": "o"}


def test_help_shows_every_declared_option_once_with_its_default():
    text = armada("train", "--help").stdout
    for option in train_options().values():
        shown = "ROWS" if option.name == "rows" else option.flag  # rows are an argument
        assert re.search(rf" {shown}[ \n]", text), shown


def test_a_config_file_names_options_and_flags_win(tmp_path):
    config = tmp_path / "run.yaml"
    config.write_text("task: demo/sentiment\nstudent: /no/student\nlr: 1e-4\nepochs: 7\naligner_width: 9\n")
    run = armada("train", "--config", config, "--out", tmp_path / "o", "--control", "undistilled", "--epochs", "0")
    assert run.returncode == 2
    assert "--epochs: expected at least 1, found 0" in run.stderr


def test_defaults_are_those_of_the_settings_classes():
    request = make_request(REQUIRED)
    assert request == RunRequest("t", "s", Path("o"))
    assert (request.settings, request.aligner) == (TrainSettings(), AlignerSettings())


def test_a_recipe_fills_in_and_never_overrides_what_was_said():
    request = make_request({**REQUIRED, "recipe": "paper"})
    assert {name: getattr(request.settings, name) for name in PAPER_SETTINGS} == PAPER_SETTINGS
    assert (request.layers, request.aligner) == (6, PAPER_ALIGNER)
    mine = make_request({**REQUIRED, "recipe": "paper", "epochs": 2, "layers": 4, "aligner_width": 5})
    assert (mine.settings.epochs, mine.layers, mine.aligner.width, mine.settings.batch_size) == (2, 4, 5, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--alhpa", "1"), "--alpha"),
        (("--alpha", "nan"), "--alpha: expected a finite number, found nan"),
        (("--beta", "-1"), "--beta: expected at least 0"),
        (("--epochs", "x"), "Invalid value"),
        (("--combine", "sum"), "--combine: expected one of mean, draw, found 'sum'"),
        (("--missing", "skip"), "--missing: expected one of drop, found 'skip'"),
        (("--recipe", "pasta"), "--recipe: expected one of paper, found 'pasta'"),
        (("--control", "shufled"), "--control: expected one of"),
        (("--seed", "100000000000000000000"), "--seed"),
    ],
)
def test_bad_values_are_refused_by_flag_before_anything_is_loaded(tmp_path, words, message):
    required = [part for name, value in REQUIRED.items() for part in (f"--{name}", value)]
    run = armada("train", *required, *words)
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_typo_in_a_config_file_names_file_and_nearest_option(tmp_path):
    config = tmp_path / "run.yaml"
    for text, message in (
        ("alhpa: 1", "unknown option 'alhpa'; did you mean alpha?"),
        ("[1]", "found list"),
        ("a: [", "YAML"),
    ):
        config.write_text(text)
        run = armada("train", "--config", config)
        assert (run.returncode, "Traceback" in run.stderr) == (2, False)
        assert str(config) in run.stderr
        assert message in run.stderr


def test_options_that_contradict_one_another_are_refused():
    with pytest.raises(ArmadaError, match="--load-4bit: expected --lora-rank N"):
        check_request(make_request({**REQUIRED, "load_4bit": True}))
    with pytest.raises(ArmadaError, match="--samples"):
        check_request(make_request({**REQUIRED, "samples": 2, "max_local_bytes": 9, "cache": "c"}))


def test_an_option_as_json_is_an_option(tmp_path):
    assert make_request(json.loads(json.dumps({**REQUIRED, "lora_targets": ["a", "b"]}))).lora_targets == ("a", "b")
    assert make_request({**REQUIRED, "lora_targets": "a, b"}).lora_targets == ("a", "b")
