"""The objective crossfit from request to record, for each type of task that it teaches, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from accelerate.state import AcceleratorState

from distill import Splits, TrainSettings, changes, load_card, load_splits
from pipelines.run.request import RunRequest, check_request, make_request
from pipelines.run.teacher_targets import check_objective, with_objective
from pipelines.run.training import run_training
from teacher_cache import ArmadaError, Cache, build, open_encoder, open_teacher
from tests.distill.tiny import save_decoder, save_student
from tests.pipelines.study.test_task_types import NO_ROWS, rows

TEACHER, ENCODER = "tests.fakes:FakeTeacher", "tests.fakes:FakeEncoder"
SMALL = {"epochs": 2, "batch_size": 8, "lr": 1e-3, "components": 4, "folds": 3, "aligner_width": 16}


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    AcceleratorState._reset_state(reset_partial_state=True)
    return str(save_student(tmp_path_factory.mktemp("student")))


def run(task, folder, student, splits, name=None, **options):
    """Train, and return the record. An option of None is left out."""
    cache = Cache(str(folder / "cache"), create=True)
    build(cache, splits.train.prompts, open_teacher(TEACHER), open_encoder(ENCODER))
    parts = {"cache": str(cache.store), "teacher": TEACHER, "encoder": ENCODER, "objective": "crossfit", **SMALL}
    name = name or "-".join(map(str, options.values())) or "run"
    given = {"task": task, "student": student, "out": folder / name, **parts, **options}
    if given["objective"] != "crossfit":
        given = {key: value for key, value in given.items() if key not in ("components", "folds")}
    request = make_request({key: value for key, value in given.items() if value is not None})
    run_training(request, splits)
    return json.loads((folder / name / "run.json").read_text())


@pytest.mark.parametrize(
    ("task", "metric"),
    [
        ("glue/sst2", "accuracy"),
        ("glue/stsb", "pearson"),
        ("superglue/copa", "accuracy"),
        ("world/emotions", "macro_f1"),
    ],
)
def test_every_type_of_labelled_task_learns_and_says_what_its_features_tell_out_of_fold(
    task, metric, student, tmp_path
):
    record = run(task, tmp_path, student, Splits(rows(task, 24), NO_ROWS, rows(task, 8, 24)))
    found = record["out_of_fold"]
    assert (found["folds"], found["rows"]) == (3, record["rows"]["train"])
    assert -1 <= found["metrics"][metric] <= 1
    assert found["epoch"] in (0, 1)
    assert ("majority" in found) == (task == "glue/sst2")
    assert record["parameters"]["added_to_student"] == 16 * 4, "the projection, and no auxiliary head"
    assert all(epoch["manifold"] > 0 for epoch in record["epochs"])


@pytest.mark.parametrize("control", ["shuffled", "random-per-picture", "zero", "frozen-aligner", "aux-only"])
def test_controls_take_the_same_path_with_aligners_of_their_own(control, student, tmp_path):
    splits = Splits(rows("glue/sst2", 24), NO_ROWS, rows("glue/sst2", 8, 24))
    real, controlled = (run("glue/sst2", tmp_path, student, splits, **more) for more in ({}, {"control": control}))
    assert controlled["out_of_fold"] != real["out_of_fold"]
    assert controlled["out_of_fold"]["folds"] == 3
    assert controlled["epochs"] != real["epochs"]


def test_several_pictures_per_row_and_windows_of_shards_are_taught_too(student, tmp_path):
    splits = load_splits(load_card("demo/sentiment"))
    splits = replace(splits, train=splits.train.first(24), validation=NO_ROWS, test=splits.test.first(8), also={})
    for more in ({"max_local_bytes": 600}, {"samples": 2, "combine": "draw"}):
        folder = tmp_path / next(iter(more))
        cache = Cache(str(folder / "cache"), create=True)
        from teacher_cache import BuildOptions

        options = BuildOptions(samples=2, shard_rows=5)
        build(cache, splits.train.prompts, open_teacher(TEACHER), open_encoder(ENCODER), options)
        assert run("demo/sentiment", folder, student, splits, **more)["out_of_fold"]["rows"] == 24


def test_a_generation_task_and_options_of_the_other_objective_are_refused_in_words(student, tmp_path):
    decoder = str(save_decoder(tmp_path / "decoder", causal=True))
    task = "reasoning/gsm8k"
    splits = Splits(rows(task, 8), NO_ROWS, rows(task, 4, 8))
    with pytest.raises(
        ArmadaError, match=r"--objective crossfit: expected a task of type classification, multi-label, "
    ):
        run(task, tmp_path, decoder, splits)
    with pytest.raises(ArmadaError, match=r"--folds: expected --objective crossfit beside it, found armada"):
        resolved("classification", objective="armada", folds=3)


def test_the_student_of_a_compiled_run_is_refused_where_its_gradients_are_balanced(student, tmp_path):
    with pytest.raises(
        ArmadaError, match=r"--compile: expected --balance none beside --objective crossfit, found cont"
    ):
        run(
            "glue/sst2", tmp_path, student, Splits(rows("glue/sst2", 8), NO_ROWS, rows("glue/sst2", 4, 8)), compile=True
        )


def test_similarity_is_refused_in_words(student, tmp_path):
    request = make_request({"rows": "rows.csv", "student": student, "out": tmp_path / "run", "objective": "crossfit"})
    card = SimpleNamespace(name="own/pairs", type="similarity")
    with pytest.raises(ArmadaError, match=r"--objective crossfit: expected .*, of type similarity"):
        check_objective(request, card)


@pytest.mark.parametrize("objective", ["armada", "crossfit"])
def test_own_features_class_weights_and_label_smoothing_are_of_both_objectives(objective, student, tmp_path):
    splits = Splits(rows("glue/sst2", 24), NO_ROWS, rows("glue/sst2", 8, 24))
    np.save(tmp_path / "own.npy", np.random.default_rng(0).standard_normal((24, 6)).astype(np.float32))
    (tmp_path / "own.npy.keys.txt").write_text("\n".join(splits.train.prompts))
    common = {"task": "glue/sst2", "student": student, "features": tmp_path / "own.npy", "objective": objective}
    small = {name: SMALL[name] for name in ("epochs", "batch_size", "lr", "aligner_width")}
    losses = []
    for number, more in enumerate(({}, {"class_weights": "1,3"}, {"label_smoothing": 0.3})):
        out = tmp_path / f"run{number}"
        run_training(make_request({**common, **small, "out": out, **more}), splits)
        record = json.loads((out / "run.json").read_text())
        losses.append([epoch["task"] for epoch in record["epochs"]])
        assert record["features"]["teacher"] == "own-features"
        assert ("out_of_fold" in record) == (objective == "crossfit")
    assert losses[0] != losses[1]
    assert losses[0] != losses[2]


def resolved(type_, **options):
    """The objective of a run on a task of a type, after the request is checked."""
    words = {"task": "own/rows", "student": "minilm", "out": "run", "cache": "./cache", **options}
    request = make_request(words)
    check_request(request)
    return with_objective(request, SimpleNamespace(name="own/rows", type=type_)).settings.objective


@pytest.mark.parametrize("type_", ["classification", "multi-label", "regression", "choice"])
def test_a_task_that_crossfit_can_teach_has_it_by_default_and_the_run_says_so(type_, capsys):
    assert resolved(type_) == "crossfit"
    assert capsys.readouterr().err == (
        "own/rows: objective crossfit: the default; --objective armada is the reference's\n"
    )
    assert resolved(type_, objective="armada") == "armada"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("type_", ["generation", "similarity"])
def test_a_task_that_crossfit_cannot_teach_has_armada_by_default_and_the_run_says_why(type_, capsys):
    assert resolved(type_) == "armada"
    assert f"own/rows: objective armada: crossfit does not teach tasks of type {type_}\n" == capsys.readouterr().err
    with pytest.raises(ArmadaError, match=f"--objective crossfit: expected .*, of type {type_}"):
        resolved(type_, folds=3)


@pytest.mark.parametrize(
    "options",
    [
        *({"manifold": "cosine"}, {"beta": 1.0}, {"gamma": 1.0}, {"dropout": 0.1}, {"recipe": "paper"}),
        *({"aligner_rotation": "descent"}, {"aligner_angle": 0.1}, {"compile": True}, {"regression": "relu"}),
    ],
)
def test_an_option_that_only_armada_has_chooses_it_even_with_its_default_value(options, capsys):
    assert resolved("regression", **options) == "armada"
    assert resolved("regression", objective="crossfit", **{**options, "compile": False, "regression": "standardised"})


def test_options_of_both_objectives_are_refused_together():
    with pytest.raises(ArmadaError, match=r"--folds: expected --objective crossfit beside it, found armada, which "):
        resolved("classification", folds=3, manifold="relational")
    with pytest.raises(ArmadaError, match=r"--compile: expected --balance none beside --objective crossfit"):
        resolved("classification", folds=3, compile=True)
    assert resolved("classification", balance="none", compile=True) == "crossfit"


@pytest.mark.parametrize("settings", [{"beta": 0.5}, {"manifold": "relational"}])
def test_a_request_of_python_with_a_setting_of_armada_has_armada(settings, capsys):
    request = RunRequest("own/rows", "minilm", Path("run"), settings=TrainSettings(**settings))
    assert with_objective(request, SimpleNamespace(name="own/rows", type="choice")).settings.objective == "armada"
    assert f"no other one has --{next(iter(settings))}" in capsys.readouterr().err


@pytest.mark.parametrize("control", ["undistilled", "parameter-matched"])
def test_a_student_without_a_teacher_has_no_objective_and_keeps_its_name(control, capsys):
    assert resolved("classification", control=control) is None
    assert capsys.readouterr().err == ""
    assert changes(make_request({"task": "a", "student": "b", "out": "c"}).settings) == {}


def test_a_run_by_default_is_named_after_crossfit_and_a_finished_one_of_armada_stays_what_it_was(student, tmp_path):
    splits = Splits(rows("glue/sst2", 16), NO_ROWS, rows("glue/sst2", 8, 24))
    by_armada, by_default = (
        run("glue/sst2", tmp_path, student, splits, **more) for more in ({"objective": "armada"}, {"objective": None})
    )
    assert "objective" not in by_armada["identity"]["settings"], "as in every record before 2026-12"
    assert by_default["identity"]["settings"]["objective"] == "crossfit"
    with pytest.raises(ArmadaError, match=r"another run is here: settings.objective was 'armada', now 'crossfit'"):
        run("glue/sst2", tmp_path, student, splits, name="armada", objective=None)
    assert run("glue/sst2", tmp_path, student, splits, name="armada", objective="armada") == by_armada
