"""Errors in a study file name the file, the key and what is expected."""

from pathlib import Path

import pytest
import yaml

from distill.controls import CONTROL_NAMES
from distill.objective.losses import MANIFOLD_LOSSES
from pipelines.study.config import read_study
from pipelines.study.run import Run, request_of
from pipelines.study.runner import runs_of
from teacher_cache import ArmadaError
from tests.pipelines.studies import write_study

STUDIES = Path(__file__).resolve().parents[3] / "pipelines" / "studies"

PRIMARY = {"arm": "relational", "against": ["undistilled", "shuffled"], "margin": 0.01}


def test_the_metric_is_the_first_of_the_card_where_the_study_names_none(tmp_path):
    assert read_study(write_study(tmp_path, task="glue/stsb")).study.metric == "pearson"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 0]}, r"study\.yaml: seeds: .*expected each seed once, found \[0, 0\]"),
        ({"rows": {"train": 24}}, r"study\.yaml: rows\.test: Field required"),
        ({"colour": "red"}, r"study\.yaml: colour: Extra inputs are not permitted"),
        (
            {"arms": {"relational": {}}},
            "primary.against: expected arms of this study .relational., found 'undistilled'",
        ),
        ({"settings": {"epoch": 3}}, "expected one of .*epochs.*, found 'epoch'"),
        ({"settings": {"epochs": "three"}}, "epochs"),
        ({"settings": {"select": "test"}}, "select: expected last or validation, found test"),
        ({"task": "glue/nothing"}, r"study\.yaml: task: no task 'glue/nothing'"),
        (
            {"primary": {**PRIMARY, "metric": "mcc"}},
            r"primary\.metric: expected a metric of demo/sentiment \(accuracy, m",
        ),
        (
            {"task": "glue/stsb", "primary": {**PRIMARY, "metric": "accuracy"}},
            r"expected a metric of glue/stsb \(pearson",
        ),
        ({"primary": {**PRIMARY, "readout": "probe"}, "readouts": {}}, "primary.readout: expected one that readouts"),
        ({"task": "reasoning/gsm8k"}, "readouts: expected finetune alone for the generation task reasoning/gsm8k"),
        (
            {"arms": {"undistilled": {"control": "undistilled"}, "relational": {"manifold": "flat"}, "shuffled": {}}},
            "arms.relational: .*manifold: expected one of cosine.*found 'flat'",
        ),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path, changes, message):
    with pytest.raises(ArmadaError, match=message):
        read_study(write_study(tmp_path, **changes))


def test_a_missing_file_and_broken_yaml_are_errors_that_name_them(tmp_path):
    with pytest.raises(ArmadaError, match="no such file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ArmadaError, match="expected YAML"):
        read_study(tmp_path / "broken.yaml")


def test_the_digest_names_the_files_bytes(tmp_path):
    path = write_study(tmp_path)
    before = read_study(path).digest
    path.write_text(path.read_text() + "# a comment\n")
    assert read_study(path).digest != before


def test_the_primary_demo_has_every_loss_every_control_five_seeds_and_all_read_outs():
    study = read_study(STUDIES / "demo.yaml").study
    arms = study.arms.values()
    assert {arm.control for arm in arms if arm.control} == {"undistilled", *CONTROL_NAMES}
    assert {arm.manifold for arm in arms if not arm.control} == set(MANIFOLD_LOSSES) - {"none"}
    assert len(study.seeds) >= 5
    assert study.rows.train >= 2000
    assert study.readouts.finetune
    assert study.readouts.probe
    assert study.readouts.few_shot
    assert len(runs_of(study)) == 100


def test_the_secondary_demo_has_the_four_arms_that_were_promised():
    study = read_study(STUDIES / "demo-minilm.yaml").study
    assert list(study.arms) == ["undistilled", "cosine", "relational", "shuffled"]
    assert (study.student, len(study.seeds)) == ("minilm", 5)


def test_an_arm_takes_the_options_of_train_by_their_names(tmp_path):
    arms = {
        "undistilled": {"control": "undistilled"},
        "relational": {"alpha": "2e-1", "aligner_width": 8},
        "shuffled": {},
    }
    study = read_study(write_study(tmp_path, arms=arms)).study
    request = request_of(study, Run("finetune", "relational", 3), tmp_path, "cache", {"lr": 0.1, "max_length": 9})
    assert (request.settings.alpha, request.aligner.width, request.settings.manifold) == (0.2, 8, "relational")
    assert (request.settings.lr, request.settings.max_length, request.settings.seed) == (0.1, 9, 3)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"alhpa": 0.1}, "arms.relational: .*found 'alhpa'; did you mean alpha"),
        ({"alpha": 3}, "arms.relational: .*alpha: expected at most 1, found 3"),
        ({"seed": 3}, "arms.relational: .*found 'seed'"),
        ({"epochs": "many"}, "arms.relational: .*found 'many'"),
    ],
)
def test_a_typo_in_an_arm_names_the_nearest_option(tmp_path, arm, message):
    arms = {"undistilled": {"control": "undistilled"}, "relational": arm, "shuffled": {}}
    with pytest.raises(ArmadaError, match=message):
        read_study(write_study(tmp_path, arms=arms))


def test_the_margin_of_the_demo_is_the_registered_one():
    assert yaml.safe_load((STUDIES / "demo.yaml").read_text())["primary"]["margin"] == 0.01
