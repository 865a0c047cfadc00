"""Few-shot students of a study: pre-trained by the code of `armada pretrain`, as its file says, then fine-tuned."""

import json

import pytest
import yaml
from accelerate.state import AcceleratorState

from pipelines.study.config import read_study
from pipelines.study.inputs import study_splits
from pipelines.study.run import Run, run_one
from pipelines.study.run_folders import run_facts
from pipelines.study.runner import runs_of
from teacher_cache import ArmadaError, Cache, build, open_encoder, open_teacher
from tests.pipelines.studies import write_study


def study_of(folder, **few_shot):
    file = yaml.safe_load(write_study(folder).read_text())
    file["readouts"]["few_shot"] |= {"pretraining": {"epochs": 2, "components": 4}, **few_shot}
    return read_study(write_study(folder, readouts=file["readouts"])).study


@pytest.mark.parametrize(
    ("said", "objective", "width"), [({}, "relational", 8), ({"objective": "regression"}, "regression", 4)]
)
def test_a_few_shot_student_is_pre_trained_as_the_file_says_and_then_fine_tuned(tmp_path, said, objective, width):
    AcceleratorState._reset_state(reset_partial_state=True)
    study = study_of(tmp_path, **said)
    splits = study_splits(study)
    cache = Cache(str(tmp_path / "cache"), create=True)
    build(cache, splits.train.prompts, open_teacher(study.teacher), open_encoder(study.encoder))
    run = Run("few_shot", "relational", 0)
    outcome = run_one(study, run, tmp_path / "run", str(cache.store), splits)
    record = json.loads((tmp_path / "run" / "pretrained" / "run.json").read_text())
    assert (record["identity"]["pretraining"], record["components"], record["rows"]) == (objective, width, 24)
    assert set(outcome["readouts"]) == {"few_shot"}
    tuned = json.loads((tmp_path / "run" / "run.json").read_text())
    assert tuned["rows"]["train"] == 8
    assert tuned["identity"]["student"]["name"].endswith("pretrained/student")


def test_a_finished_few_shot_run_stays_valid_where_the_file_says_no_objective(tmp_path):
    facts = run_facts(study_of(tmp_path), Run("few_shot", "relational", 0))["few_shot"]
    assert "objective" not in facts
    facts = run_facts(study_of(tmp_path, objective="regression"), Run("few_shot", "relational", 0))["few_shot"]
    assert facts["objective"] == "regression"


WORDS = {"undistilled": {"control": "undistilled"}, "relational": {}, "shuffled": {"control": "shuffled"}}


def masked_study(folder, arm, **said):
    file = yaml.safe_load(write_study(folder).read_text())
    few = file["readouts"]["few_shot"] | {"arms": ["undistilled", "relational", "words"], "objectives": {}, **said}
    return write_study(folder, arms={**WORDS, "words": arm}, readouts={**file["readouts"], "few_shot": few})


def test_a_masked_arm_learns_from_the_texts_alone_and_is_measured_after_a_few_labels_only(tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    path = masked_study(tmp_path, {"control": "undistilled"}, objectives={"words": "masked"})
    study = read_study(path).study
    assert [run.kind for run in runs_of(study) if run.arm == "words"] == ["few_shot"] * 2
    run = Run("few_shot", "words", 0)
    outcome = run_one(study, run, tmp_path / "run", str(tmp_path / "no cache"), study_splits(study))
    record = json.loads((tmp_path / "run" / "pretrained" / "run.json").read_text())
    assert (record["identity"]["pretraining"], record["rows"]) == ("masked", 24)
    assert "features" not in record
    assert set(outcome["readouts"]) == {"few_shot"}
    assert run_facts(study, run)["few_shot"]["objective"] == "masked"


@pytest.mark.parametrize(
    ("arm", "said", "expected"),
    [
        ({"control": "shuffled"}, {"objectives": {"words": "masked"}}, "arms.words: expected the control undistilled"),
        ({}, {"objective": "masked"}, "arms.relational: expected the control undistilled"),
        ({}, {"objectives": {"other": "masked"}}, "readouts.few_shot.objectives: expected arms of this study"),
        ({}, {"objectives": {"words": "words"}}, "readouts.few_shot.objectives.words"),
    ],
)
def test_what_masked_words_cannot_be_is_an_error_of_the_file(tmp_path, arm, said, expected):
    with pytest.raises(ArmadaError, match=expected):
        read_study(masked_study(tmp_path, arm, **said))
