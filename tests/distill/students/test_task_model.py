"""Cards of every type (pairs, scores, choices) train and are scored with encoders and with decoders."""

import json
import math

import pytest
import torch
from accelerate import Accelerator

from distill.cards.cards import load_card
from distill.objective.aligner import train_aligner
from distill.objective.targets import TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.loading import StudentSpec
from distill.students.task_model import open_task_model
from distill.tasks.splits import load_splits
from distill.training.trainer import CheckpointConfig, train_student
from tests.distill.tiny import WORDS, save_decoder, save_student

CPU = torch.device("cpu")
ROWS = {
    "glue/stsb": lambda i: {"sentence1": WORDS[i % 16], "sentence2": WORDS[i % 5], "label": float(i % 6)},
    "glue/mrpc": lambda i: {"sentence1": f"{WORDS[i % 16]} {i}", "sentence2": WORDS[i % 5], "label": i % 2},
    "superglue/copa": lambda i: {
        "premise": f"{WORDS[i % 16]} {i}",
        "question": "cause",
        "choice1": "good plane",
        "choice2": "bad phone",
        "label": i % 2,
    },
}
METRICS = {
    "glue/stsb": {"pearson", "spearman"},
    "glue/mrpc": {"f1", "accuracy"},
    "superglue/copa": {"accuracy"},
}


@pytest.mark.parametrize("save", [save_student, save_decoder], ids=["encoder", "decoder"])
@pytest.mark.parametrize("name", ROWS)
def test_a_student_is_distilled_and_scored_on_a_card_of_each_type(tmp_path, name, save):
    for split, count in (("train", 40), ("test", 10)):
        lines = [json.dumps(ROWS[name](number)) for number in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    card = load_card(name)
    splits = load_splits(card, tmp_path)
    settings = TrainSettings(epochs=2, batch_size=8, lr=1e-3)
    task_model = open_task_model(StudentSpec(str(save(tmp_path / "student"))), card, splits.train, settings)
    features = torch.randn(len(splits.train), 12).half()
    targets = torch.tensor(task_model.targets)
    states = train_aligner(features, targets, task_model.classes, 2, AlignerSettings(width=8, batch_size=8), 0, "key")
    epochs = train_student(
        task_model.model,
        task_model.tokens,
        task_model.targets,
        settings,
        data_digest="digest",
        teacher_targets=TeacherTargets(features, states, 8),
        checkpoint_config=CheckpointConfig(tmp_path / "checkpoints"),
        accelerator=Accelerator(cpu=True),
    )
    assert task_model.classes == (1 if card.type == "regression" else 2)
    assert all(math.isfinite(epoch.loss) for epoch in epochs)
    found = task_model.evaluate(splits.test, CPU, "test")
    assert set(found) == METRICS[name]
    assert all(-1 <= value <= 1 for value in found.values())
