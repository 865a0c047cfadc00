"""Errors in a study file name the file, the key and what is expected."""

from pathlib import Path

import pytest
import yaml

from distill.controls import CONTROL_NAMES
from distill.objective.losses import MANIFOLD_LOSSES
from pipelines.run.request import train_options
from pipelines.study.config import read_study
from pipelines.study.run import Run, request_of
from pipelines.study.runner import runs_of
from teacher_cache import ArmadaError
from tests.pipelines.studies import write_study

STUDIES = Path(__file__).resolve().parents[3] / "pipelines" / "studies"

NOT_OF_ARMS = (
    "task",
    "data_files",
    "rows",
    "text_column",
    "label_column",
    "type",
    "out",
    "cache",
    "seed",
    "recipe",
    "track",
    "select",
    "lora_export",
)
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
        ({"setings": {}}, r"study\.yaml: setings: Extra inputs are not permitted; did you mean settings"),
        ({"rows": {"train": 24, "tset": 4}}, r"study\.yaml: rows\.tset: .*; did you mean test"),
        ({"settings": {"epoch": 3}}, r"settings\.epoch: expected an option of armada train.*; did you mean epochs"),
        ({"settings": {"epochs": "three"}}, r"settings\.epochs: .*found 'three'"),
        ({"settings": {"control": "noise"}}, r"settings\.control: expected no control here: arms differ in it"),
        ({"settings": {"encoder": "e"}}, r"settings\.encoder: expected no encoder here: it has a key of its own"),
        ({"teacher": None}, r"arms\.relational\.teacher: expected one of this arm, or of the whole study, found none"),
        ({"task": "my.yaml"}, r"study\.yaml: task: .*my\.yaml: expected a YAML file: No such file"),
        ({"task": None}, r"study\.yaml: task: expected a task, or rows of your own as data_files, found neither"),
        ({"text_column": "text"}, r"study\.yaml: text_column: the card .*sentiment\.yaml says it; leave this out"),
        ({"data_files": "rows.csv"}, r"study\.yaml: data_files: no such file or folder: .*/rows\.csv"),
        ({"settings": {"select": "test"}}, "select: expected last or validation, found test"),
        ({"arms": {"../x": {}, "undistilled": {}}, "primary": {**PRIMARY, "arm": "../x"}}, "found 'shuffled'"),
        ({"arms": {"undistilled": {"control": "undistilled"}, "relational": {}, "shuffled": {}, "../x": {}}}, "'../x'"),
        ({"task": "glue/nothing"}, r"study\.yaml: task: no task 'glue/nothing'"),
        (
            {"primary": {**PRIMARY, "metric": "mcc"}},
            r"primary\.metric: expected a metric of sentiment \(accuracy, m",
        ),
        (
            {"task": "glue/stsb", "primary": {**PRIMARY, "metric": "accuracy"}},
            r"expected a metric of glue/stsb \(pearson",
        ),
        ({"primary": {**PRIMARY, "readout": "probe"}, "readouts": {}}, "primary.readout: expected one that readouts"),
        ({"task": "reasoning/gsm8k"}, "readouts: expected finetune alone for the generation task reasoning/gsm8k"),
        (
            {"arms": {"undistilled": {"control": "undistilled"}, "relational": {"manifold": "flat"}, "shuffled": {}}},
            r"arms\.relational\.manifold: expected one of cosine.*found 'flat'",
        ),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path, changes, message):
    with pytest.raises(ArmadaError, match=message):
        read_study(write_study(tmp_path, **changes))


def test_a_missing_file_and_broken_yaml_are_errors_that_name_them(tmp_path):
    with pytest.raises(ArmadaError, match="no such file"):
        read_study(tmp_path / "none.yaml")
    broken = {
        "a: [": "expected YAML",
        "name: é".encode("latin-1"): "line 1: expected UTF-8",
        "- a": "expected keys and",
    }
    broken["arms: {a: {encoder: open_clip:A?b=1}}"] = "line 1: .*put a text with . in quotes"
    broken |= {"arms:\n  a: {}\n  a: {}": "line 3: .*expected each key once, found 'a' again", "": "found nothing"}
    for text, message in broken.items():
        (tmp_path / "broken.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(ArmadaError, match=message):
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
    said = {"lr": 0.1, "max_length": 9, "alpha": 0.5}  # by the study, for all arms: what an arm says wins
    request = request_of(study, Run("finetune", "relational", 3), tmp_path, "cache", said)
    assert (request.settings.alpha, request.aligner.width, request.settings.manifold) == (0.2, 8, "relational")
    assert (request.settings.lr, request.settings.max_length, request.settings.seed) == (0.1, 9, 3)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"alhpa": 0.1}, r"arms\.relational\.alhpa: .*found 'alhpa'; did you mean alpha"),
        ({"encodr": "e"}, r"arms\.relational\.encodr: .*; did you mean encoder"),
        ({"alpha": 3}, r"arms\.relational\.alpha: expected at most 1, found 3"),
        ({"seed": 3}, r"arms\.relational\.seed: expected no seed here: the study lists its seeds"),
        ({"select": "test"}, r"arms\.relational\.select: expected no select here: settings says it for all arms"),
        ({"epochs": "many"}, r"arms\.relational\.epochs: .*found 'many'"),
        ({"control": "nosie"}, r"arms\.relational\.control: expected one of undistilled.*found 'nosie'"),
        ({"track": "wandb"}, r"arms\.relational\.track: expected no track here"),
    ],
)
def test_a_typo_in_an_arm_names_the_nearest_option(tmp_path, arm, message):
    arms = {"undistilled": {"control": "undistilled"}, "relational": arm, "shuffled": {}}
    with pytest.raises(ArmadaError, match=message):
        read_study(write_study(tmp_path, arms=arms))


@pytest.mark.parametrize("name", [name for name in train_options() if name not in NOT_OF_ARMS])
def test_every_option_of_train_can_be_said_by_an_arm(tmp_path, name):
    """From one declaration: an option that is new in `train` is new in arms."""
    option = train_options()[name]
    value = {
        "student": "minilm",
        "control": "shuffled",
        "teacher": "tests.fakes:FakeTeacher?style=other",
        "encoder": "tests.fakes:FakeEncoder?dimension=4",
        "student_revision": "main",
        "features": "own.npy",
        "feature_keys": "own.parquet",
    }.get(name)
    if value is None:
        value = option.declared.choices[-1] if option.declared.choices else 0.25 if option.type is float else None
    value = value if value is not None else (not option.default if isinstance(option.default, bool) else 8)
    value = "a,b" if "tuple" in str(option.type) else value
    arms = {"undistilled": {"control": "undistilled"}, "relational": {name: value}, "shuffled": {}}
    study = read_study(write_study(tmp_path, arms=arms)).study
    request = request_of(study, Run("finetune", "relational", 0), tmp_path, "cache", {name: option.default})
    part = {"settings": request.settings, "aligner": request.aligner, "": request}[option.part]
    found = getattr(part, option.attribute)
    assert (found.name if isinstance(found, Path) else found) == (("a", "b") if value == "a,b" else value)


def test_a_study_of_features_of_ones_own_needs_no_teacher_and_no_cache(tmp_path):
    """Their files are beside the study's file."""
    path = write_study(tmp_path, settings={"features": "f.npy"}, teacher=None, encoder=None)
    request = request_of(
        read_study(path).study, Run("finetune", "relational", 0), tmp_path, "cache", {"features": "f.npy"}
    )
    assert (request.cache, request.teacher, request.encoder) == (None, None, None)
    assert request.features == tmp_path.resolve() / "f.npy"


def test_the_margin_of_the_demo_is_the_registered_one():
    assert yaml.safe_load((STUDIES / "demo.yaml").read_text())["primary"]["margin"] == 0.01


def test_a_file_that_names_no_objective_means_armada_whatever_train_does_by_default(tmp_path):
    named = {"undistilled": {"control": "undistilled"}, "relational": {"manifold": "relational"}, "shuffled": {}}
    study = read_study(write_study(tmp_path, arms=named)).study
    found = request_of(study, Run("finetune", "shuffled", 0), tmp_path, "cache", study.settings)
    assert (found.settings.objective, found.settings.manifold) == ("armada", "relational")
    assert study.arms_without_objective == ["shuffled"]
    study = read_study(write_study(tmp_path, arms=named, settings={"objective": "crossfit"})).study
    found = request_of(study, Run("finetune", "shuffled", 0), tmp_path, "cache", study.settings)
    assert (found.settings.objective, study.arms_without_objective) == ("crossfit", [])


def test_the_arms_of_the_files_that_were_registered_keep_their_objectives():
    """Those of demo.yaml and demo-minilm.yaml name none, because there was no other one."""
    by_armada = {"demo.yaml": 12, "demo-minilm.yaml": 3, "map-sentiment.yaml": 1, "ablation-sentiment.yaml": 1}
    for name, count in by_armada.items():
        study = read_study(STUDIES / name).study
        runs = [Run("finetune", arm, 0) for arm, said in study.arms.items() if said.control != "undistilled"]
        settings = [request_of(study, run, Path("out"), "cache", study.settings).settings for run in runs]
        assert [one.objective for one in settings].count("armada") == count, name
        assert {one.objective for one in settings} <= {"armada", "crossfit"}, name
