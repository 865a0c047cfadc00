"""The export is a plain checkpoint: stock transformers loads it with the same logits, and it contains nothing else."""

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill.dataset.tokens import tokenize
from distill.students.evaluation import predict
from distill.students.export import export_student, model_card
from distill.students.loading import load_student
from tests.distill.tiny import save_student
from tests.distill.training.test_trainer import LABELS, ROWS, run, teacher_targets


def test_a_distilled_student_has_the_same_logits_in_stock_transformers(tmp_path):
    folder = save_student(tmp_path / "start")
    model, _ = run(str(folder), tmp_path, teacher_targets(), manifold="pointwise")
    _, tokenizer = load_student(str(folder), LABELS, 0)
    ours = predict(model, tokenize(tokenizer, ROWS.texts, 32), torch.device("cpu"))
    export_student(model, tokenizer, tmp_path / "export", model_card({"task": "t"}))

    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export").eval()
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    with torch.inference_mode():
        theirs = stock(**words([text for (text,) in ROWS.texts], padding=True, return_tensors="pt")).logits
    assert torch.allclose(torch.from_numpy(ours), theirs, atol=1e-5)
    assert stock.config.id2label == dict(enumerate(LABELS))


def test_the_export_contains_the_weights_of_the_student_and_no_others(tmp_path):
    folder = save_student(tmp_path / "start")
    model, _ = run(str(folder), tmp_path, teacher_targets())
    _, tokenizer = load_student(str(folder), LABELS, 0)
    export_student(model, tokenizer, tmp_path / "export", model_card({"task": "t"}))
    names = set(load_file(tmp_path / "export" / "model.safetensors"))
    assert names == set(load_file(folder / "model.safetensors"))
    suffixes = {path.suffix for path in (tmp_path / "export").iterdir()}
    assert suffixes <= {".safetensors", ".json", ".md", ".txt"}


def test_an_export_replaces_an_older_one_completely(tmp_path):
    folder = save_student(tmp_path / "start")
    model, tokenizer = load_student(str(folder), LABELS, 0)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "left-over").write_text("old")
    export_student(model, tokenizer, tmp_path / "export", "card")
    assert not (tmp_path / "export" / "left-over").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "start"]
