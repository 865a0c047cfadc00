"""The ten lines in the docstring of `distill/training/hf_trainer.py` run unchanged in transformers' Trainer."""

import re

import pytest
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from distill.objective.losses import student_loss
from distill.objective.targets import EpochTargets
from distill.settings import TrainSettings
from distill.students.pooling import pooled_and_logits
from distill.training import hf_trainer
from distill.training.hf_trainer import DistilledModel, targets_from_cache
from teacher_cache import ArmadaError, Cache, CoverageError, build
from tests import fakes
from tests.distill.tiny import save_student, split

ROWS = split(24)
LINES = re.search(r"```python\n(.*?)```", hf_trainer.__doc__, re.DOTALL)[1]


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The names that the ten lines expect."""
    cache = Cache(str(tmp_path / "my-cache"), create=True)
    build(cache, ROWS.prompts, fakes.teacher(), fakes.encoder())
    monkeypatch.chdir(tmp_path)
    name = str(save_student(tmp_path / "start", num_labels=3))
    return {
        "name": name,
        "texts": ROWS.prompts,
        "labels": ROWS.labels,
        "tokenizer": AutoTokenizer.from_pretrained(name),
        "AutoModelForSequenceClassification": AutoModelForSequenceClassification,
        "Dataset": Dataset,
        "Trainer": Trainer,
        "TrainingArguments": TrainingArguments,
    }


def test_the_ten_lines_train_and_save_a_plain_checkpoint(script, tmp_path):
    assert len([line for line in LINES.splitlines() if line and not line.startswith("from")]) <= 10
    start = AutoModelForSequenceClassification.from_pretrained(script["name"], num_labels=3)
    exec(compile(LINES, "script.py", "exec"), script)
    model, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student", output_loading_info=True)
    assert not any(report.values())
    assert not torch.equal(model.bert.pooler.dense.weight, start.bert.pooler.dense.weight)
    assert script["trainer"].state.global_step == 9


def test_the_loss_is_the_student_loss_of_armada(script):
    teacher_targets = targets_from_cache("my-cache", ROWS.prompts, ROWS.labels, epochs=2)
    stock = AutoModelForSequenceClassification.from_pretrained(script["name"], num_labels=3)
    model = DistilledModel(stock, teacher_targets).eval()
    rows, labels = torch.tensor([3, 5, 8]), torch.tensor([ROWS.labels[row] for row in (3, 5, 8)])
    batch = dict(script["tokenizer"]([ROWS.prompts[row] for row in rows], padding=True, return_tensors="pt"))
    for epoch in (0, 1):
        model.begin(epoch)
        epoch_targets = EpochTargets(teacher_targets, epoch, torch.device("cpu"))
        outputs = model.heads(*pooled_and_logits(stock, batch))
        settings = {"manifold": "cosine", "alpha": 0.5, "beta": 1.0, "gamma": 1.0, "temperature": 5.0}
        expected = student_loss(
            epoch_targets.outputs(rows, teacher_targets.features[rows]), outputs, labels, **settings
        ).total
        assert torch.allclose(model(labels=labels, row=rows, **batch)["loss"], expected)
    plain = model(labels=labels, **batch)
    assert torch.allclose(plain.loss, stock(**batch, labels=labels).loss)


def gradient_of_one_step(script, folder, accumulation, count=24, **settings):
    """The loss and the gradient norm that the stock Trainer logs for one step over `count` rows, and the trainer."""
    targets = targets_from_cache("my-cache", ROWS.prompts, ROWS.labels, epochs=1)
    stock = AutoModelForSequenceClassification.from_pretrained(
        script["name"], num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    # In float64, because the gradient of `relational` has a relative rounding error of 4e-5 in float32.
    model = DistilledModel(stock, targets, TrainSettings(dropout=0.0, **settings)).double()
    rows = {**script["tokenizer"](ROWS.prompts[:count]), "labels": ROWS.labels[:count], "row": list(range(count))}
    args = TrainingArguments(
        str(folder), max_steps=1, per_device_train_batch_size=24 // accumulation, use_cpu=True, logging_steps=1,
        gradient_accumulation_steps=accumulation, remove_unused_columns=False, report_to=[], save_strategy="no",
        max_grad_norm=1e6, disable_tqdm=True,
    )  # fmt: skip
    collate = DataCollatorWithPadding(script["tokenizer"])
    trainer = Trainer(
        model, args, train_dataset=Dataset.from_dict(rows), data_collator=collate, callbacks=[model.callback]
    )
    trainer.train()
    log = next(entry for entry in trainer.state.log_history if "grad_norm" in entry)
    return log["loss"], log["grad_norm"], trainer


@pytest.mark.parametrize(
    ("manifold", "count", "some"),
    [
        ("cosine", 24, (4,)),
        ("relational", 21, (4,)),  # the last part is smaller
        ("pointwise", 24, (4,)),
        *(
            pytest.param(*case, (4, 12), marks=pytest.mark.slow)
            for case in (("cosine", 21), ("euclid", 21), ("none", 21))
        ),
    ],
)
def test_the_trainer_has_the_same_loss_and_gradient_at_any_accumulation(script, tmp_path, manifold, count, some):
    one = gradient_of_one_step(script, tmp_path / "one", 1, count, manifold=manifold)
    for parts in some:
        several = gradient_of_one_step(script, tmp_path / str(parts), parts, count, manifold=manifold)
        assert several[0] == pytest.approx(one[0], rel=1e-5)
        assert several[1] == pytest.approx(one[1], rel=1e-5)


def test_a_part_whose_batch_was_never_finished_is_not_counted_in_the_next(script, tmp_path):
    trainer = gradient_of_one_step(script, tmp_path, 4, manifold="cosine")[2]
    model, batch = trainer.model.train(), dict(script["tokenizer"](ROWS.prompts[:6], padding=True, return_tensors="pt"))
    rows, labels = torch.arange(6), torch.tensor(ROWS.labels[:6])
    assert model(labels=labels, row=rows, num_items_in_batch=24, **batch)["loss"] == 0
    model.callback.on_step_begin(trainer.args, trainer.state, trainer.control)
    assert model(labels=labels, row=rows, num_items_in_batch=24, **batch)["loss"] == 0
    whole = model(labels=labels, row=rows, num_items_in_batch=12, **batch)["loss"]
    assert len(model._parts) == 0
    assert whole > 0


def test_the_trainer_evaluates_the_plain_classifier(script, tmp_path):
    trainer = gradient_of_one_step(script, tmp_path, 4)[2]
    rows = Dataset.from_dict({**script["tokenizer"](ROWS.prompts), "labels": ROWS.labels})
    batch = script["tokenizer"](ROWS.prompts, padding=True, return_tensors="pt")
    trainer.args.per_device_eval_batch_size = 24
    with torch.inference_mode():
        expected = trainer.model.student.eval()(**batch, labels=torch.tensor(ROWS.labels)).loss
    assert trainer.evaluate(rows)["eval_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_label_smoothing_of_the_trainer_is_refused_because_it_would_replace_the_teacher(script):
    model = DistilledModel(
        AutoModelForSequenceClassification.from_pretrained(script["name"], num_labels=3),
        targets_from_cache("my-cache", ROWS.prompts, ROWS.labels, epochs=1),
    )
    batch = script["tokenizer"](ROWS.prompts[:2], padding=True, return_tensors="pt")
    with pytest.raises(ArmadaError, match="label_smoothing_factor"):
        model.train()(row=torch.tensor([0, 1]), **batch)


def test_rows_with_several_labels_train_in_the_trainer_as_transformers_takes_them(script, tmp_path):
    """Labels are (N, K) floats, and the plain checkpoint knows that they do not exclude one another."""
    sets = [[float(row % 8 >> label & 1) for label in range(3)] for row in range(len(ROWS))]
    teacher_targets = targets_from_cache("my-cache", ROWS.prompts, sets, epochs=3)
    assert teacher_targets.classes == 3
    several = script["AutoModelForSequenceClassification"].from_pretrained(
        script["name"], num_labels=3, problem_type="multi_label_classification"
    )
    model = DistilledModel(several, teacher_targets).eval()
    rows = torch.tensor([3, 5, 8])
    batch = dict(script["tokenizer"]([ROWS.prompts[row] for row in rows], padding=True, return_tensors="pt"))
    labels = torch.tensor([sets[row] for row in rows])
    model.begin(2)
    outputs = model.heads(*pooled_and_logits(several, batch))
    aligner = EpochTargets(teacher_targets, 2, torch.device("cpu")).outputs(rows, teacher_targets.features[rows])
    weights = {"manifold": "cosine", "alpha": 0.5, "beta": 1.0, "gamma": 1.0, "temperature": 5.0}
    found = model(labels=labels, row=rows, **batch)["loss"]
    assert torch.allclose(found, student_loss(aligner, outputs, labels, **weights).total)
    lines = LINES.replace("num_labels=3", "num_labels=3, problem_type='multi_label_classification'")
    exec(compile(lines, "script.py", "exec"), {**script, "labels": sets})
    saved = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert saved.config.problem_type == "multi_label_classification"


def test_a_text_without_a_picture_stops_before_training(script):
    with pytest.raises(CoverageError, match="24 of 25"):
        targets_from_cache("my-cache", [*ROWS.prompts, "never drawn"], [*ROWS.labels, 0], epochs=1)


def test_class_weights_are_not_taken_in_silence(tmp_path):
    from distill.objective.aligner import untrained_states
    from distill.objective.targets import TeacherTargets
    from distill.settings import AlignerSettings
    from distill.students.loading import load_student

    model, _ = load_student(str(save_student(tmp_path)), ["a", "b", "c"], 0)
    targets = TeacherTargets(torch.zeros(4, 5), untrained_states(5, 3, 1, AlignerSettings(width=4), 0), 4)
    with pytest.raises(ArmadaError, match="DistilledModel: expected no class_weights"):
        DistilledModel(model, targets, TrainSettings(class_weights=("balanced",)))
