"""The objective crossfit from request to record, for each type of task that it teaches, and what it refuses."""

import json
from dataclasses import replace

import pytest
from accelerate.state import AcceleratorState

from distill import Splits, load_card, load_splits
from pipelines.run.request import make_request
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


def run(task, folder, student, splits, **options):
    cache = Cache(str(folder / "cache"), create=True)
    build(cache, splits.train.prompts, open_teacher(TEACHER), open_encoder(ENCODER))
    parts = {"cache": str(cache.store), "teacher": TEACHER, "encoder": ENCODER, "objective": "crossfit", **SMALL}
    name = "-".join(map(str, options.values())) or "run"
    request = make_request({"task": task, "student": student, "out": folder / name, **parts, **options})
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
        run("glue/sst2", tmp_path, student, splits, objective="armada", components=64)
