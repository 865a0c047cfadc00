"""Regression: a student learns scores standardised by the training rows, and its export scores in the labels' unit."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from distill.cards.cards import load_card
from distill.dataset.tokens import tokenize
from distill.objective.aligner import train_aligner
from distill.objective.score_scale import fold_scale, scale_of, unfold_scale
from distill.objective.targets import TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.evaluation import predict
from distill.students.loading import StudentSpec, load_student
from distill.students.task_model import finish_task_model, open_task_model
from distill.tasks.splits import Split
from distill.training.trainer import CheckpointConfig, train_student
from tests.distill.tiny import WORDS, save_decoder, save_student

CPU = torch.device("cpu")
CARD = load_card("glue/stsb")


def rows(count=48, low=-30.0, step=1.5):
    """Pairs whose first word decides a label, all of them far below zero."""
    texts = [(f"{WORDS[row % len(WORDS)]} plane", "late") for row in range(count)]
    labels = [low + step * (row % len(WORDS)) for row in range(count)]
    return Split([str(row) for row in range(count)], texts, [text for text, _ in texts], labels)


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return str(save_student(tmp_path_factory.mktemp("student")))


def train(student, folder, seed=0, taught=True, regression="standardised", **changes):
    """A trained and exported regression student, and its metrics on its training rows."""
    split = rows()
    settings = TrainSettings(
        **{"epochs": 10, "batch_size": 8, "lr": 1e-2, "warmup": 0.0, "seed": seed, "max_length": 16, **changes}
    )
    task_model = open_task_model(StudentSpec(student), CARD, split, settings, regression)
    targets = None
    if taught:
        aligner = AlignerSettings(width=8, batch_size=8, lr=1e-2, regression=regression)
        features = torch.nn.functional.one_hot(torch.arange(len(split)) % len(WORDS), len(WORDS)).half() + 0.5
        states = train_aligner(features, torch.tensor(task_model.targets), 1, settings.epochs, aligner, seed, "key")
        targets = TeacherTargets(features, states, 8, relu=regression == "relu")
    train_student(
        task_model.model, task_model.tokens, task_model.targets, settings,
        data_digest="digest", teacher_targets=targets, checkpoint_config=CheckpointConfig(folder / "checkpoints"),
        accelerator=Accelerator(cpu=True),
    )  # fmt: skip
    finish_task_model(task_model, CPU)
    return task_model, task_model.evaluate(split, CPU, "test")


@pytest.mark.parametrize("seed", range(8))
def test_a_taught_regression_with_negative_targets_has_the_right_sign_for_every_seed(student, tmp_path, seed):
    _, metrics = train(student, tmp_path, seed)
    assert metrics["pearson"] > 0.5
    assert metrics["spearman"] > 0.5


def test_the_reference_can_not_learn_negative_targets(student, tmp_path):
    """Its ReLU has no gradient below zero: why it is left to --recipe paper."""
    _, metrics = train(student, tmp_path, regression="relu", alpha=0.9)
    assert metrics["pearson"] < 0.5


def test_an_exported_student_scores_in_the_unit_of_the_labels(student, tmp_path):
    task_model, _ = train(student, tmp_path, taught=False)
    split = rows()
    scores = predict(task_model.model, tokenize(task_model.tokenizer, split.texts, 16), CPU)[:, 0]
    errors = np.abs(scores - np.asarray(split.labels))
    assert errors.mean() < 0.6 * np.std(split.labels)
    assert abs(scores.mean() - np.mean(split.labels)) < np.std(split.labels)


@pytest.mark.parametrize("kind", ["encoder", "decoder, whose head has no bias"])
def test_a_student_that_scores_already_starts_with_the_scores_that_it_has(tmp_path, kind):
    path = save_student(tmp_path) if kind == "encoder" else save_decoder(tmp_path)
    scorer, tokenizer = load_student(str(path), [], 0)
    scorer.save_pretrained(path)
    split = rows()
    before = predict(scorer, tokenize(tokenizer, split.texts, 16), CPU)
    task_model = open_task_model(StudentSpec(str(path)), CARD, split, TrainSettings(max_length=16))
    learns = predict(task_model.model, task_model.tokens, CPU)
    assert not np.allclose(learns, before, atol=1e-3)
    finish_task_model(task_model, CPU)
    assert np.allclose(predict(task_model.model, task_model.tokens, CPU), before, atol=1e-4)


def test_scores_have_deviation_one_and_the_scale_folds_back():
    labels = [-5.0, -1.0, 3.0]
    scale = scale_of(labels)
    assert np.mean(scale.standardised(labels)) == pytest.approx(0)
    assert np.std(scale.standardised(labels)) == pytest.approx(1)
    assert scale_of([2.0, 2.0]).standardised([2.0]) == [0.0]
    assert np.square(scale_of(labels, centred=False).standardised(labels)).mean() == pytest.approx(1)
    head, pooled = torch.nn.Linear(4, 1), torch.randn(3, 4)
    scores = head(pooled).detach()
    fold_scale(head, scale)
    assert torch.allclose(head(pooled), scores * scale.deviation + scale.mean, atol=1e-5)
    unfold_scale(head, scale)
    assert torch.allclose(head(pooled), scores, atol=1e-5)
