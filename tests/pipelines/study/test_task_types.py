"""A study of any type of task gives the score that `armada train` gives, and that scikit-learn gives."""

import json
from dataclasses import replace

import numpy as np
import pytest
import yaml
from scipy import stats
from sklearn import metrics

from distill import Splits, load_card, question_scores
from distill.tasks.splits import Split
from pipelines.study.checks import check_arms
from pipelines.study.config import parse_study
from pipelines.study.findings import find
from pipelines.study.predictions import load_predictions, save_predictions, score_predictions
from pipelines.study.run import Run, run_one
from pipelines.study.runner import runs_of
from teacher_cache import ArmadaError, Cache, build
from tests import fakes
from tests.distill.tiny import WORDS, save_decoder, save_student
from tests.pipelines.studies import write_study

NO_ROWS = Split([], [], [], [])
SETTINGS = {"epochs": 1, "batch_size": 8, "lr": 1e-4}  # so that a random student keeps telling rows apart


def rows(task, count, first=0):
    """Rows of a task whose first word decides the answer; class 2 is never an answer."""
    card = load_card(task)
    choices = 4 if task == "reasoning/hellaswag" else 2
    texts, labels, groups = [], [], []
    for number in range(first, first + count):
        word = WORDS[number % len(WORDS)]
        if card.type == "choice":
            for choice in range(choices):
                texts.append((f"{word} {number}", WORDS[choice]) if len(card.text) > 1 else (f"{word} {choice}",))
                labels.append(int(choice == number % choices))
                groups.append(f"q{number}")
        else:
            texts.append((f"{word} {number}",) * len(card.text))
            ids = tuple(label for label in range(4) if number % 8 >> label & 1)  # none for every eighth row
            answers = {"classification": number % 2, "regression": -float(number % 5) - 0.5, "multi-label": ids}
            labels.append(answers.get(card.type, (str(number % 3),)))
    ids = [f"{number:04}" for number in range(len(texts))]
    return Split(ids, texts, [" ".join(one) for one in texts], labels, groups or None)


def by_scikit(task, predictions, split):
    """Return the first metric of a task, computed here from the predictions."""
    kind = load_card(task).type
    if kind == "generation":
        return np.mean(
            [text.split()[-1:] == [answers[0]] for text, answers in zip(predictions, split.labels, strict=True)]
        )
    if kind == "multi-label":
        wanted = np.array([[label in labels for label in range(predictions.shape[1])] for labels in split.labels])
        return metrics.f1_score(wanted, predictions > 0, average="macro", zero_division=np.nan)
    if kind == "regression":
        return stats.pearsonr(predictions[:, 0], split.labels)[0]
    if kind == "choice":
        asked = list(dict.fromkeys(split.groups))
        answers, right = [], []
        for group in asked:
            mine = [row for row, other in enumerate(split.groups) if other == group]
            answers.append(int(np.argmax([predictions[row, 1] - predictions[row, 0] for row in mine])))
            right.append([split.labels[row] for row in mine].index(1))
        return metrics.accuracy_score(right, answers)
    return metrics.accuracy_score(split.labels, predictions.argmax(1))


TASKS = [
    "glue/sst2",
    "glue/mnli",
    "reasoning/piqa",
    "reasoning/hellaswag",
    "glue/stsb",
    "world/emotions",
    "reasoning/gsm8k",
]


def study_of(folder, task, student, **changes):
    path = write_study(
        folder, task=task, student=str(student), readouts={"probe": changes.pop("probe", False)}, **changes
    )
    return parse_study(path.read_bytes(), path).study


@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_a_study_scores_as_train_and_as_scikit_learn(tmp_path, task):
    (tmp_path / "model").mkdir()
    is_text = load_card(task).type == "generation"
    student = save_decoder(tmp_path / "model", causal=True) if is_text else save_student(tmp_path / "model")
    splits = Splits(rows(task, 20), NO_ROWS, rows(task, 12, first=20))
    primary = {"arm": "relational", "against": ["undistilled", "shuffled"], "margin": 0.01}
    study = study_of(tmp_path, task, student, probe=not is_text, primary=primary, settings=SETTINGS)
    build(Cache(str(tmp_path / "cache"), create=True), splits.train.prompts, fakes.teacher(), fakes.encoder())
    metric = load_card(task).metrics[0]
    for arm in ("undistilled", "relational"):
        folder = tmp_path / arm
        outcome = run_one(study, Run("finetune", arm, 0), folder, str(tmp_path / "cache"), splits)
        trained = json.loads((folder / "run.json").read_text())["metrics"]["test"]
        assert outcome["readouts"]["finetune"] == pytest.approx(trained, abs=1e-5)
        for readout, found in outcome["readouts"].items():
            predictions = load_predictions(folder, readout, splits.test.ids)
            assert found[metric] == pytest.approx(by_scikit(task, predictions, splits.test), abs=1e-5)


SIMILARITY = {
    "name": "own/pairs",
    "title": "Pairs with a score",
    "type": "similarity",
    "source": {"repository": "own", "revision": "1", "files": "rows", "licence": "own"},
    "text": ["{a}", "{b}"],
    "prompt": "{a} {b}",
    "label": "score",
    "split": {"train": 80, "validation": 10, "test": 10},
    "metrics": ["spearman", "pearson"],
}


def scored_pairs(count, first=0):
    numbers = range(first, first + count)
    texts = [(f"{WORDS[number % 16]} plane {number}", f"{WORDS[number * 3 % 16]} phone") for number in numbers]
    labels = [float(number % 5) for number in numbers]
    return Split([str(number) for number in numbers], texts, [" ".join(pair) for pair in texts], labels)


def test_a_study_of_sentence_pairs_scores_as_train_and_as_scipy_and_has_no_probe(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(SIMILARITY))
    student = save_student(tmp_path / "model")
    primary = {"arm": "relational", "against": ["undistilled", "shuffled"], "margin": 0.01}
    with pytest.raises(ArmadaError, match=r"readouts\.probe: expected none for the similarity task own/pairs"):
        study_of(tmp_path, "card.yaml", student, probe=True, primary=primary)
    study = study_of(tmp_path, "card.yaml", student, primary=primary, settings=SETTINGS)
    splits = Splits(scored_pairs(20), NO_ROWS, scored_pairs(12, first=20))
    build(Cache(str(tmp_path / "cache"), create=True), splits.train.prompts, fakes.teacher(), fakes.encoder())
    for arm in ("undistilled", "relational"):
        folder = tmp_path / arm
        outcome = run_one(study, Run("finetune", arm, 0), folder, str(tmp_path / "cache"), splits)["readouts"][
            "finetune"
        ]
        assert outcome == pytest.approx(json.loads((folder / "run.json").read_text())["metrics"]["test"], abs=1e-5)
        found = load_predictions(folder, "finetune", splits.test.ids)[:, 0]
        assert outcome["spearman"] == pytest.approx(stats.spearmanr(found, splits.test.labels)[0], abs=1e-5)


def test_an_encoder_is_refused_for_a_generation_task_before_the_first_call(tmp_path):
    (tmp_path / "model").mkdir()
    study = study_of(tmp_path, "reasoning/gsm8k", save_student(tmp_path / "model"))
    train = replace(rows("reasoning/gsm8k", 8), labels=[(WORDS[number % 3],) for number in range(8)])
    with pytest.raises(ArmadaError, match="expected a decoder for a generation task"):
        check_arms(study, Splits(train, NO_ROWS, NO_ROWS), tmp_path, str(tmp_path / "cache"))


@pytest.mark.parametrize("task", TASKS)
def test_the_findings_of_simulated_predictions_are_scikit_learns(tmp_path, task):
    """Random predictions stand for trained students; `find` reads them as it reads those of a run."""
    card, test = load_card(task), rows(task, 60)
    (tmp_path / "model").mkdir()
    study = study_of(tmp_path, task, save_student(tmp_path / "model"), seeds=[0, 1, 2, 3, 4])
    generator = np.random.default_rng(0)
    expected = {}
    for run in runs_of(study):
        if card.type == "generation":
            predictions = np.array([f"so {generator.integers(3)}" for _ in range(len(test))])
        else:
            predictions = generator.normal(size=(len(test), max(1, len(card.classes))))
        folder = tmp_path / "out" / "runs" / run.name
        folder.mkdir(parents=True)
        save_predictions(folder, {"finetune": predictions}, test.ids)
        scores = score_predictions(card, load_predictions(folder, "finetune", test.ids), test)
        outcome = {"arm": run.arm, "seed": run.seed, "readouts": {"finetune": scores}, "curve": [1.0]}
        (folder / "outcome.json").write_text(json.dumps(outcome))
        expected[run.arm, run.seed] = by_scikit(task, load_predictions(folder, "finetune", test.ids), test)
    found = find(study, tmp_path / "out", runs_of(study), test)
    for one in found.measured:
        assert one.values == pytest.approx([expected[one.arm, seed] for seed in one.seeds], abs=1e-6)
    assert found.test_rows == 60
    assert found.tested_on == ("questions" if card.type == "choice" else "rows")
    for one in found.comparisons:
        assert one.rows_low < one.mean < one.rows_high
        assert one.both_low < one.mean < one.both_high
        assert one.p_holm >= max(one.p, one.p_both)
        assert one.bounds == (min(one.low, one.both_low), max(one.high, one.both_high))
    assert "of the seeds and of the test rows" in found.sentence


@pytest.mark.parametrize(("task", "chance"), [("reasoning/piqa", 1 / 2), ("reasoning/hellaswag", 1 / 4)])
def test_a_student_that_calls_every_choice_wrong_does_not_get_a_point_for_each(task, chance):
    """Scored by rows it would have .75 on four choices."""
    test = rows(task, 400)
    always_wrong = np.tile([1.0, 0.0], (len(test), 1))
    assert score_predictions(load_card(task), always_wrong, test)["accuracy"] == pytest.approx(chance, abs=0.05)
    assert len(question_scores(always_wrong, test.labels, test.groups)) == 400


def test_a_class_that_no_training_row_has_is_never_predicted_by_the_probe():
    """The columns of the probe are those of the card, and not those of the classes that it has seen."""
    from distill import probe

    train = np.array([[0.0], [0.1], [2.0], [2.1]])
    logits = probe(train, [0, 0, 2, 2], np.array([[0.0], [2.0]]), 0, 3)
    assert logits.argmax(1).tolist() == [0, 2]
    assert probe(train, [1, 1, 1, 1], train, 0, 3).argmax(1).tolist() == [1] * 4


def test_predictions_are_found_by_row_id_and_other_rows_are_not(tmp_path):
    save_predictions(tmp_path, {"finetune": np.array([[1.0], [2.0], [3.0]])}, ["a", "b", "c"])
    assert load_predictions(tmp_path, "finetune", ["c", "a"]).tolist() == [[3.0], [1.0]]
    assert load_predictions(tmp_path, "finetune", ["c", "d"]) is None
    assert load_predictions(tmp_path, "probe", ["a"]) is None
    assert load_predictions(tmp_path / "none", "finetune", ["a"]) is None
    np.savez_compressed(tmp_path / "predictions.npz", finetune=np.array([1, 0]))  # as before 2026-12
    assert load_predictions(tmp_path, "finetune", ["x", "y"]).tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert load_predictions(tmp_path, "finetune", ["x"]) is None
