"""A study of one's own rows by one's own card, whose arms differ in encoder, teacher and any other setting."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import f1_score

from pipelines.study.building import ArmSources, arm_sources
from pipelines.study.config import read_study
from pipelines.study.inputs import study_splits
from pipelines.study.predictions import load_predictions
from pipelines.study.runner import run_study
from teacher_cache import ArmadaError
from tests.distill.tiny import WORDS
from tests.pipelines.cli import armada
from tests.pipelines.studies import write_study

OTHER = {"teacher": "tests.fakes:FakeTeacher?style=other", "encoder": "tests.fakes:FakeEncoder?dimension=4"}
ARMS = {
    "undistilled": {"control": "undistilled"},
    "small": {"encoder": OTHER["encoder"], "alpha": 0.2},
    "other": {**OTHER, "samples": 2, "aligner_width": 16, "epochs": 1},
    "shuffled": {"control": "shuffled"},
}
PRIMARY = {"arm": "small", "against": ["undistilled", "shuffled"], "margin": 0.01}
CARD = {
    "name": "own/emotions",
    "title": "Emotions of a few words",
    "type": "multi-label",
    "source": {"repository": "own", "revision": "1", "files": "rows", "licence": "own"},
    "text": ["{text}"],
    "prompt": "{text}",
    "label": "emotions",
    "labels": ["anger", "joy", "love"],
    "split": {"train": "train", "validation": 0, "test": "test"},
    "metrics": ["micro_f1", "subset_accuracy"],
}
ROWS = 24


def write_rows(folder: Path, first_labels=("joy",)):
    """Write 24 training and 12 test rows, some of them without a label."""
    folder.mkdir(exist_ok=True)
    for name, count in (("train", ROWS), ("test", 12)):
        rows = []
        for row in range(count):
            labels = [CARD["labels"][label] for label in range(3) if row % 8 >> label & 1]
            rows.append({"text": f"{WORDS[row % len(WORDS)]} plane {name} {row}", "emotions": labels})
        rows[0]["emotions"] = list(first_labels)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def own_study(folder: Path, **changes):
    """Write a study beside its card and its rows, which it names by relative paths."""
    (folder / "card.yaml").write_text(yaml.safe_dump(CARD))
    write_rows(folder / "rows")
    said = {"task": "card.yaml", "data_files": "rows", "arms": ARMS, "primary": PRIMARY, "seeds": [0], "readouts": {}}
    path = write_study(folder, **{**said, **changes})
    study = {
        key: value for key, value in yaml.safe_load(path.read_text()).items() if key != "rows" or "rows" in changes
    }
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    path = own_study(folder, settings={"epochs": 2, "batch_size": 8, "lr": 1e-4, "precision": "fp32"})
    run = armada("study", path, "--out", folder / "out", "--json")
    assert run.returncode == 0, run.stderr
    return path, folder / "out", run


def record(out, arm):
    return json.loads((out / "runs" / "finetune" / f"{arm}-seed0" / "run.json").read_text())


def test_each_arm_joins_the_features_of_its_own_teacher_and_encoder_in_one_cache(finished):
    _, out, run = finished
    small, other, shuffled = (record(out, arm) for arm in ("small", "other", "shuffled"))
    assert [one["features"]["dimension"] for one in (small, other, shuffled)] == [4, 4, 8]
    assert small["features"]["encoder"] == other["features"]["encoder"] != shuffled["features"]["encoder"]
    assert small["features"]["teacher"] == shuffled["features"]["teacher"] != other["features"]["teacher"]
    assert record(out, "undistilled")["features"] is None
    assert {path.name for path in (out / "cache" / "images").iterdir()} == {
        small["features"]["teacher"],
        other["features"]["teacher"],
    }
    assert "24 calls now, 24 in all" in run.stderr
    assert "48 calls now, 72 in all" in run.stderr


def test_what_an_arm_says_wins_over_the_settings_of_the_study(finished):
    _, out, _ = finished
    assert [len(record(out, arm)["epochs"]) for arm in ("small", "other")] == [2, 1]
    assert record(out, "small")["settings"]["student"]["alpha"] == 0.2
    assert record(out, "other")["settings"]["aligner"]["width"] == 16
    assert record(out, "other")["identity"]["pictures"] == {"samples": 2, "combine": "mean"}
    assert record(out, "shuffled")["identity"]["student"]["precision"] == "fp32"


def test_a_multi_label_study_of_own_rows_scores_as_train_and_as_scikit_learn(finished):
    path, out, _ = finished
    study = read_study(path).study
    test = study_splits(study).test
    assert len(test) == 12
    assert () in test.labels, "a row without any label is tested on too"
    wanted = np.zeros((12, 3), int)
    for row, labels in enumerate(test.labels):
        wanted[row, list(labels)] = 1
    for arm in ARMS:
        folder = out / "runs" / "finetune" / f"{arm}-seed0"
        predicted = load_predictions(folder, "finetune", test.ids) > 0
        score = json.loads((folder / "outcome.json").read_text())["readouts"]["finetune"]
        assert score["micro_f1"] == pytest.approx(f1_score(wanted, predicted, average="micro", zero_division=0))
        assert score["subset_accuracy"] == pytest.approx((wanted == predicted).all(1).mean())
        assert score == pytest.approx(record(out, arm)["metrics"]["test"])
        assert record(out, arm)["rows"]["train"] + record(out, arm)["held_out"] <= ROWS


def test_the_report_has_every_arm_and_the_costs_of_both_teachers(finished):
    _, out, _ = finished
    found = json.loads((out / "results.json").read_text())
    assert [one["arm"] for one in found["measured"]] == list(ARMS)
    assert (found["account"]["calls"], found["account"]["taught_runs"]) == (72, 3)
    page = (out / "report.html").read_text()
    assert "micro_f1" in page
    assert "Emotions of a few words: multi-label of anger, joy, love" in page
    assert "encoder tests.fakes:FakeEncoder?dimension=4" in page


@pytest.mark.slow
def test_a_study_of_rows_without_a_card_guesses_and_says_what_train_guesses(tmp_path):
    """Eight classes in a CSV file, with nothing but the file's name and its columns; two encoders as arms."""
    rows = [f"{WORDS[row % 16]} plane {row},kind {row % 8}" for row in range(60)]
    (tmp_path / "own.csv").write_text("\n".join(["message,category", *rows]) + "\n")
    arms = {name: ARMS[name] for name in ("undistilled", "small", "shuffled")}
    said = {"task": None, "data_files": "own.csv", "arms": arms, "primary": PRIMARY, "seeds": [0], "readouts": {}}
    said |= {"rows": None, "settings": {"max_steps": 2, "batch_size": 8}}
    path = write_study(tmp_path, **said)
    run = armada("study", path, "--out", tmp_path / "out")
    assert run.returncode == 0, run.stderr
    assert "own: type: classification, 8 classes: kind 0, kind 1" in run.stderr
    found = [record(tmp_path / "out", arm) for arm in arms]
    assert [one["rows"]["train"] for one in found] == [found[0]["rows"]["train"]] * 3
    assert [one["features"] and one["features"]["dimension"] for one in found] == [None, 4, 8]
    study = read_study(path).study
    assert study.metric == "accuracy"
    assert study.card.classes == [f"kind {number}" for number in range(8)]
    alone = tmp_path / "alone"
    words = ("--student", study.student, "--control", "undistilled", "--max-steps", 2, "--batch-size", 8)
    trained = armada("train", tmp_path / "own.csv", *words, "--out", alone)
    assert trained.returncode == 0, trained.stderr
    assert json.loads((alone / "run.json").read_text())["metrics"]["test"] == found[0]["metrics"]["test"]


def test_runs_on_rows_that_have_changed_since_do_not_count(finished, tmp_path):
    path, out, _ = finished
    write_rows(path.parent / "rows", first_labels=("love",))
    try:
        reported = json.loads(armada("report", out, "--json").stdout)
    finally:
        write_rows(path.parent / "rows")
    assert reported["finished"] == 0
    assert "data_files was changed after the study ran" in reported["changes"]
    again = json.loads(armada("report", out, "--json").stdout)
    assert (again["finished"], again["changes"]) == (4, "")


def test_max_calls_caps_the_teachers_of_a_study_together(tmp_path):
    path = own_study(tmp_path, max_calls=30)
    stopped = armada("study", path, "--out", tmp_path / "out")
    assert stopped.returncode == 4
    assert "max_calls: all 30 calls are made" in stopped.stderr
    assert len(list((tmp_path / "out" / "cache" / "images").iterdir())) == 2


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"encoder": "open_clp:ViT"}, r"arm small: encoder: open_clp:ViT: .*open_clip"),
        ({"teacher": "pictgram"}, r"arm small: teacher: pictgram: unknown teacher 'pictgram'; known: "),
        ({"encoder": "tests.fakes:FakeEncoder?dimensoin=4"}, r"arm small: encoder: .*unknown option 'dimensoin'"),
        ({"layers": 9}, r"arm small: --layers: expected 1 to 1"),
        ({"lora_targets": "query"}, r"arm small: --lora-targets: expected --lora-rank"),
        ({"student": "nothing/here"}, r"arm small: .*nothing/here"),
    ],
)
def test_what_an_arm_can_not_do_is_found_before_the_first_call_and_names_the_arm(tmp_path, arm, message):
    path = own_study(tmp_path, arms={**ARMS, "small": arm})
    with pytest.raises(ArmadaError, match=message):
        run_study(path, tmp_path / "out")
    assert not (tmp_path / "out" / "cache").exists()


def test_features_that_a_given_cache_lacks_are_found_before_the_first_run(finished, tmp_path):
    _, out, _ = finished
    arms = {**ARMS, "small": {"encoder": "tests.fakes:FakeEncoder?dimension=2"}}
    path = own_study(tmp_path, cache=str(out / "cache"), arms=arms)
    with pytest.raises(ArmadaError, match=r"arm small: (.|\n)*complete the cache with: armada cache build"):
        run_study(path, tmp_path / "out")
    assert not list(tmp_path.glob("out/runs/*/*"))


def test_the_sources_of_an_arm_are_its_own_or_the_studys(tmp_path):
    arms = {**ARMS, "words": {"control": "text-embedding"}}
    study = read_study(own_study(tmp_path, arms=arms)).study
    plain = "tests.fakes:FakeTeacher", "tests.fakes:FakeEncoder"
    assert arm_sources(study, "undistilled") is None
    assert arm_sources(study, "small") == ArmSources(plain[0], OTHER["encoder"])
    assert arm_sources(study, "other") == ArmSources(**OTHER, samples=2)
    assert arm_sources(study, "words") == ArmSources(plain[0], "text:minilm")
    assert arm_sources(study, "words", controlled=False) == ArmSources(*plain)
