"""Every option of `armada train` has one declaration, which the command line, `--config` and Python read."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from distill.cards.cards import load_card
from distill.settings import PAPER_ALIGNER, PAPER_SETTINGS, AlignerSettings, TrainSettings
from pipelines.cli import app
from pipelines.run.class_weights import for_task
from pipelines.run.request import RunRequest, check_request, make_request, train_options
from pipelines.study.config import read_study
from teacher_cache import ArmadaError
from tests.pipelines.cli import armada
from tests.pipelines.studies import write_study

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
        (("--epochs", "x"), "invalid value for '--epochs'"),
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


@pytest.fixture
def asked(monkeypatch):
    """The requests that the command line makes, instead of training."""
    from pipelines.run import training

    found = []
    nothing = SimpleNamespace(metrics={"accuracy": 1.0}, reused=False)
    monkeypatch.setattr(training, "run_training", lambda request: found.append(request) or nothing)
    return found


def in_process(config, said, *words):
    config.write_text(yaml.safe_dump({**REQUIRED, **said}))
    return CliRunner().invoke(app, ["train", "--config", str(config), *words])


def test_a_flag_wins_over_the_file_also_where_it_says_the_same_in_another_way(asked, tmp_path):
    config = tmp_path / "run.yaml"
    said = {"lr": 1, "warmup_steps": 7, "features": "f.npy", "compile": True}
    in_process(config, said, "--lr", "2", "--warmup", "0.2")
    said = {"learning_rate": 1, "cache": "c", "teacher": "t"}
    in_process(config, said, "--max-grad-norm", "3", "--features", "f.npy")
    in_process(config, {"compile": True, "features": "f.npy"}, "--no-compile", "--cache", "c")
    in_process(config, {"by_length": False, "lora_rank": 1}, "--by-length", "--no-load-4bit")
    one, two, three, four = asked
    assert (one.settings.lr, one.settings.warmup_steps, one.settings.warmup) == (2.0, None, 0.2)
    assert (str(one.features), one.compile) == ("f.npy", True)
    assert (two.settings.lr, two.settings.clip_norm) == (1.0, 3.0)
    assert (two.cache, two.teacher, str(two.features)) == (None, None, "f.npy")
    assert (three.compile, three.cache, three.features) == (False, "c", None)
    assert (four.settings.by_length, four.load_4bit, four.lora_rank) == (True, False, 1)


def test_a_recipe_in_a_file_overrides_neither_the_file_nor_a_flag(asked, tmp_path):
    said = {"recipe": "paper", "epochs": 2, "early_stopping_patience": 3}
    in_process(tmp_path / "run.yaml", said, "--aligner-width", "5")
    (request,) = asked
    assert (request.settings.epochs, request.aligner.width, request.settings.batch_size) == (2, 5, 8)
    assert request.settings.select == "validation"  # early stopping says so, and the recipe says test


def test_early_stopping_chooses_the_best_epoch_on_validation_rows_and_refuses_another_choice():
    assert make_request({**REQUIRED, "early_stopping_patience": 1}).settings.select == "validation"
    with pytest.raises(ArmadaError, match="--early-stopping-patience: expected --select validation beside it"):
        check_request(make_request({**REQUIRED, "early_stopping_patience": 1, "select": "last", "cache": "c"}))


def test_one_option_under_two_names_is_refused_in_a_file():
    with pytest.raises(ArmadaError, match="expected lr or learning_rate, which are one option, found both"):
        make_request({**REQUIRED, "lr": 1e-4, "learning_rate": 1e-3})


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("warmup_step", "warmup_steps"), ("early_stoping_patience", "early_stopping_patience"), ("featurs", "features")],
)
def test_a_typo_names_the_nearest_option_on_the_command_line_in_a_file_and_in_an_arm(asked, tmp_path, typo, meant):
    by_flag = in_process(tmp_path / "run.yaml", {}, f"--{typo.replace('_', '-')}", "1")
    assert by_flag.exit_code == 2
    assert f"--{meant.replace('_', '-')}" in by_flag.output
    with pytest.raises(ArmadaError, match=f"unknown option '{typo}'; did you mean {meant}"):
        make_request({**REQUIRED, typo: 1})
    arms = {"undistilled": {"control": "undistilled"}, "relational": {typo: 1}, "shuffled": {"control": "shuffled"}}
    with pytest.raises(ArmadaError, match=f"found '{typo}'; did you mean {meant}"):
        read_study(write_study(tmp_path, arms=arms))
    assert not asked


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("balanced", ("balanced",)),
        ("2,1,1", ("2.0", "1.0", "1.0")),
        ([2, 1, 1.5], ("2.0", "1.0", "1.5")),
        ({"neutral": 2, "negative": 1, "positive": 3}, ("1.0", "2.0", "3.0")),
        ("positive=3, neutral=2,negative=1", ("1.0", "2.0", "3.0")),
        ("{folder}/weights.json", ("1.0", "2.0", "3.0")),
        ("{folder}/list.yaml", ("3.0", "2.0", "1.0")),
    ],
)
def test_class_weights_are_a_word_numbers_numbers_by_class_or_a_file(tmp_path, given, kept):
    (tmp_path / "weights.json").write_text('{"neutral": 2, "negative": 1, "positive": 3}')
    (tmp_path / "list.yaml").write_text("[3, 2, 1]")
    given = given.format(folder=tmp_path) if isinstance(given, str) else given
    request = make_request({**REQUIRED, "class_weights": given})
    assert for_task(request.settings, load_card("demo/sentiment")).class_weights == kept


@pytest.mark.parametrize(
    ("given", "task", "message"),
    [
        (
            "1,2",
            "demo/sentiment",
            r"expected balanced, or a number for each class of demo/sentiment \(negative",
        ),
        ("balance", "demo/sentiment", "expected balanced, or a number for each class .* found balance"),
        ("1,2,-1", "demo/sentiment", "expected finite numbers of at least 0, found '-1'"),
        ("1,2,nan", "demo/sentiment", "expected finite numbers of at least 0, found 'nan'"),
        ("good=1,bad=2,neutral=1", "demo/sentiment", "expected a number for each class .* found them for good, bad"),
        ("none.json", "demo/sentiment", "--class-weights none.json: expected a JSON or YAML file"),
        ("balanced", "glue/stsb", "expected a task of classes, found glue/stsb, of type regression"),
    ],
)
def test_class_weights_that_fit_no_class_are_refused_in_words(given, task, message):
    settings = make_request({**REQUIRED, "class_weights": given}).settings
    with pytest.raises(ArmadaError, match=message):
        for_task(settings, load_card(task))


def test_labels_of_a_regression_are_not_smoothed():
    settings = make_request({**REQUIRED, "label_smoothing": 0.1}).settings
    with pytest.raises(ArmadaError, match="--label-smoothing: expected a task of classes, found glue/stsb"):
        for_task(settings, load_card("glue/stsb"))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"lora_alpha": 4}, "--lora-alpha: expected --lora-rank N beside it"),
        ({"lora_dropout": 0.1}, "--lora-dropout: expected --lora-rank N beside it"),
        ({"lora_export": "adapter"}, "--lora-export adapter: expected --lora-rank N beside it"),
        ({"lora_export": "adapter", "lora_rank": 2, "layers": 1}, "expected the whole student, found --layers"),
        ({"student_revision": "v1", "student": "minilm"}, "--student-revision: expected a student of the hub"),
        ({"label_smoothing": 1}, "--label-smoothing: expected less than 1"),
        ({"adam_beta1": 1}, "--adam-beta1: expected less than 1"),
        ({"class_weights": ""}, "--class-weights: expected balanced, numbers or a file, found nothing"),
        ({"schedule": "step"}, "--schedule: expected one of linear, constant, cosine, inverse_sqrt, found 'step'"),
    ],
)
def test_values_that_can_not_be_are_refused_in_words(said, message):
    with pytest.raises(ArmadaError, match=message):
        check_request(make_request({**REQUIRED, "control": "undistilled", **said}))


def test_the_page_of_options_is_what_the_command_prints():
    page = Path(__file__).resolve().parents[3] / "docs" / "train-options.md"
    run = CliRunner().invoke(app, ["train", "--options"])
    assert run.exit_code == 0, run.output
    assert run.output == page.read_text("utf-8"), "run: armada train --options > docs/train-options.md"
    assert run.output.count("\n| `") == len(train_options())
