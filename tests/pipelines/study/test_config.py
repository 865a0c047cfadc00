"""Errors in a study file name the file, the key and what is expected."""

from pathlib import Path

import pytest
import yaml

from distill.controls import CONTROL_NAMES
from distill.objective.losses import MANIFOLD_LOSSES
from pipelines.study.config import read_study, train_settings
from pipelines.study.runner import runs_of
from teacher_cache import ArmadaError
from tests.pipelines.studies import write_study

STUDIES = Path(__file__).resolve().parents[3] / "pipelines" / "studies"


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
        (
            {"arms": {"undistilled": {"control": "undistilled"}, "relational": {"manifold": "flat"}, "shuffled": {}}},
            "arms.relational.manifold: .*expected one of cosine.*found 'flat'",
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


def test_settings_are_those_of_training_and_an_arms_own_loss():
    settings = train_settings({"lr": 0.1, "max_length": 7}, 3, "euclid")
    assert (settings.lr, settings.max_length, settings.seed, settings.manifold) == (0.1, 7, 3, "euclid")
    assert yaml.safe_load((STUDIES / "demo.yaml").read_text())["primary"]["margin"] == 0.01
