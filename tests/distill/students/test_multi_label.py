"""Multi-label students: they learn sets of labels, with and without a teacher, and stock transformers reads them."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from distill.cards.cards import load_card
from distill.objective.aligner import train_aligner
from distill.objective.targets import TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.evaluation import probe
from distill.students.export import export_student, model_card
from distill.students.loading import StudentSpec
from distill.students.task_model import finish_task_model, open_task_model
from distill.tasks.splits import Split
from distill.training.trainer import CheckpointConfig, train_student
from tests.distill.tiny import WORDS, save_decoder, save_student

CPU = torch.device("cpu")
CARD = load_card("world/emotions").model_copy(update={"labels": ["anger", "joy", "love"]})


def rows(count=48):
    """Texts whose first word decides which of three labels they have; every eighth has none."""
    texts = [(f"{WORDS[row % len(WORDS)]} plane",) for row in range(count)]
    labels = [tuple(label for label in range(3) if row % 8 >> label & 1) for row in range(count)]
    return Split([str(row) for row in range(count)], texts, [text for (text,) in texts], labels)


def train(student, folder, taught, **changes):
    split = rows()
    settings = TrainSettings(
        **{
            "epochs": 90,
            "batch_size": 8,
            "lr": 5e-3,
            "schedule": "constant",
            "warmup": 0.0,
            "max_length": 16,
            **changes,
        }
    )
    task_model = open_task_model(StudentSpec(str(student)), CARD, split, settings)
    targets = None
    if taught:
        aligner = AlignerSettings(width=16, batch_size=8, lr=3e-2)
        features = torch.nn.functional.one_hot(torch.arange(len(split)) % len(WORDS), len(WORDS)).half()
        labels = torch.tensor(task_model.targets)
        states = train_aligner(features, labels, task_model.classes, settings.epochs, aligner, 0, "key")
        targets = TeacherTargets(features, states, 16)
    train_student(
        task_model.model, task_model.tokens, task_model.targets, settings,
        data_digest="digest", teacher_targets=targets, checkpoint_config=CheckpointConfig(folder / "checkpoints"),
        accelerator=Accelerator(cpu=True),
    )  # fmt: skip
    finish_task_model(task_model, CPU)
    return task_model, split


@pytest.mark.parametrize(
    "alpha", [pytest.param(None, marks=pytest.mark.slow), 0.5, pytest.param(1.0, marks=pytest.mark.slow)]
)
def test_a_student_learns_sets_of_labels_from_labels_or_from_its_teacher_alone(tmp_path, alpha):
    """With alpha = 1 the student sees no label: all that it knows is the aligner's output."""
    changes = {} if alpha is None else {"alpha": alpha, "temperature": 1.0}
    task_model, split = train(save_student(tmp_path / "start"), tmp_path, alpha is not None, **changes)
    metrics = task_model.evaluate(split, CPU, "test")
    assert set(metrics) == {"macro_f1", "micro_f1", "mean_average_precision", "subset_accuracy"}
    assert metrics["mean_average_precision"] > 0.75  # 0.5 by chance
    assert metrics["micro_f1"] > 0.6


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_an_export_has_the_same_logits_and_stock_transformers_knows_that_labels_do_not_exclude_one_another(
    tmp_path, kind
):
    start = save_student(tmp_path / "start") if kind == "encoder" else save_decoder(tmp_path / "start", pad="<pad>")
    task_model, split = train(start, tmp_path, taught=False, epochs=1)
    ours = task_model.predictions(split, CPU, "test")
    card = model_card({"task": "t"}, task_model.pipeline, multi_label=True)
    export_student(task_model.model, task_model.tokenizer, tmp_path / "export", card)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert stock.config.problem_type == "multi_label_classification"
    assert stock.config.id2label == {0: "anger", 1: "joy", 2: "love"}
    texts = [text for (text,) in split.texts]
    with torch.inference_mode():
        theirs = stock(**words(texts, padding=True, return_tensors="pt")).logits
    assert np.allclose(ours, theirs.numpy(), atol=1e-5)
    assert "top_k=None" in (tmp_path / "export" / "README.md").read_text()
    found = pipeline("text-classification", model=str(tmp_path / "export"), top_k=None)([texts[0]])[0]
    assert {one["label"]: one["score"] for one in found} == pytest.approx(
        dict(zip(stock.config.id2label.values(), torch.sigmoid(theirs[0]).tolist(), strict=True)), abs=1e-5
    )


def test_the_first_loss_is_that_of_stock_transformers(tmp_path):
    from distill.objective.losses import head_loss

    task_model = open_task_model(StudentSpec(str(save_student(tmp_path))), CARD, rows(), TrainSettings(max_length=16))
    batch = task_model.tokens.batch(np.arange(8), CPU)
    labels = torch.tensor(task_model.targets[:8])
    task_model.model.eval()
    stock = task_model.model(**batch, labels=labels.float())
    assert head_loss(stock.logits, labels).item() == pytest.approx(stock.loss.item(), abs=1e-6)


def test_a_probe_has_one_question_per_label_also_for_labels_that_no_or_every_row_has():
    train = np.array([[0.0], [0.1], [2.0], [2.1]])
    odds = probe(train, [(3,), (3,), (0, 3), (0, 3)], np.array([[0.0], [2.0]]), 0, 4)
    assert (odds > 0).tolist() == [[False, False, False, True], [True, False, False, True]]
    assert np.isfinite(odds).all()
