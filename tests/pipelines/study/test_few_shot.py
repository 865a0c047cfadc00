"""Few-shot students of a study: pre-trained by the code of `armada pretrain`, as its file says, then fine-tuned."""

import json

import pytest
import yaml
from accelerate.state import AcceleratorState

from pipelines.study.config import read_study
from pipelines.study.run import Run, run_one, study_splits
from pipelines.study.run_folders import run_facts
from teacher_cache import Cache, build, open_encoder, open_teacher
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
