"""Every family of students: training uses the stock model, and stock transformers loads the export."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from distill.dataset.tokens import tokenize
from distill.students.evaluation import predict
from distill.students.export import export_student
from distill.students.loading import StudentSpec, length_limit, load_student
from distill.students.lora import merge_lora
from distill.students.pooling import pooled_and_logits
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student
from tests.distill.training.test_trainer import LABELS, ROWS, run, teacher_targets

CPU = torch.device("cpu")
ENCODERS = ("bert", "roberta", "deberta", "deberta-v2", "modernbert")
DECODERS = ("opt", "llama", "qwen2", "qwen3")


def save(kind, folder, layers=1):
    return str((save_decoder if kind in DECODERS else save_student)(folder, kind, layers))


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_logits_are_those_of_the_stock_classifier(tmp_path, kind):
    model, tokenizer = load_student(save(kind, tmp_path), LABELS, 0)
    model.eval()
    batch = tokenize(tokenizer, ROWS.texts, 32).batch(range(9), CPU)
    with torch.inference_mode():
        pooled, logits = pooled_and_logits(model, batch)
        stock = model(**batch).logits
    assert torch.allclose(logits, stock, atol=1e-6)
    assert logits.std() > 0
    assert pooled.shape == (9, 8 if kind == "opt" else 16)


def test_a_modernbert_with_mean_pooling_is_pooled_by_the_mean(tmp_path):
    path = save_student(tmp_path, "modernbert", classifier_pooling="mean")
    model, tokenizer = load_student(str(path), LABELS, 0)
    model.eval()
    batch = tokenize(tokenizer, ROWS.texts, 32).batch(range(9), CPU)
    assert torch.allclose(pooled_and_logits(model, batch)[1], model(**batch).logits, atol=1e-6)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_decoder_is_pooled_at_its_last_real_token_on_either_side_of_the_padding(tmp_path, kind, side):
    model, tokenizer = load_student(save(kind, tmp_path), LABELS, 0)
    model.eval()
    tokenizer.padding_side = side
    batch = dict(tokenizer([text for (text,) in ROWS.texts[:6]], padding=True, return_tensors="pt"))
    assert not batch["attention_mask"].all()
    with torch.inference_mode():
        pooled, logits = pooled_and_logits(model, batch)
        stock = model(**batch).logits
        states = model.base_model(**batch)[0]
    assert torch.allclose(logits, stock, atol=1e-6)
    last = [-1] * 6 if side == "left" else (batch["attention_mask"].sum(1) - 1).tolist()
    assert torch.allclose(pooled, torch.stack([row[place] for row, place in zip(states, last, strict=True)]), atol=1e-6)


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_the_first_layers_are_kept_as_they_are(tmp_path, kind):
    path = save(kind, tmp_path / "start", layers=3)
    whole = AutoModelForSequenceClassification.from_pretrained(path).state_dict()
    model, tokenizer = load_student(StudentSpec(path, layers=2), LABELS, 0)
    assert model.config.num_hidden_layers == 2
    body = {name: value for name, value in model.base_model.state_dict(prefix=model.base_model_prefix + ".").items()}
    assert body
    assert all(torch.equal(value, whole[name]) for name, value in body.items())
    assert 0 < len(body) < len([name for name in whole if name.startswith(model.base_model_prefix)])
    export_student(model, tokenizer, tmp_path / "export", "card")
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export")
    assert stock.config.num_hidden_layers == 2


def test_more_layers_than_there_are_is_an_error(tmp_path):
    with pytest.raises(ArmadaError, match=r"--layers: expected 1 to 1, as many as .* has, found 2"):
        load_student(StudentSpec(save("bert", tmp_path), layers=2), LABELS, 0)


@pytest.mark.parametrize("rank", [None, 2], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["roberta", "deberta-v2", "modernbert", *DECODERS])
def test_an_exported_student_gives_the_same_outputs_in_stock_transformers(tmp_path, kind, rank):
    spec = StudentSpec(save(kind, tmp_path / "start"), lora_rank=rank)
    model, _ = run(spec, tmp_path, teacher_targets(), epochs=1, lr=1e-2)
    _, tokenizer = load_student(spec, LABELS, 0)
    trained = predict(model, tokenize(tokenizer, ROWS.texts, 32), CPU)
    merge_lora(model)
    export_student(model, tokenizer, tmp_path / "export", "card")

    stock, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(report.values())
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    with torch.inference_mode():
        batch = words([text for (text,) in ROWS.texts], padding=True, return_tensors="pt")
        theirs = stock.eval()(**batch).logits
    assert torch.allclose(torch.from_numpy(trained), theirs, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", *DECODERS])
def test_lora_trains_its_layers_and_the_task_head_and_nothing_else(tmp_path, kind):
    path = save(kind, tmp_path)
    model, _ = load_student(StudentSpec(path, lora_rank=2), LABELS, 0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    head = "score." if kind in DECODERS else "classifier."
    assert trained
    assert all("lora_" in name or name.startswith(head) for name in trained)
    assert any(name.startswith(head) for name in trained)
    start = load_student(path, LABELS, 0)[0].state_dict()
    merge_lora(model)
    assert all(torch.allclose(value, start[name]) for name, value in model.state_dict().items())


def test_lora_targets_name_the_layers(tmp_path):
    spec = StudentSpec(save("llama", tmp_path), lora_rank=2, lora_targets=("q_proj",))
    names = [name for name, _ in load_student(spec, LABELS, 0)[0].named_parameters() if "lora_" in name]
    assert names
    assert all("q_proj" in name for name in names)
    with pytest.raises(ArmadaError, match=r"--lora-targets: expected some of .*q_proj.*, found nothing"):
        load_student(StudentSpec(spec.name, lora_rank=2, lora_targets=("nothing",)), LABELS, 0)


def test_a_regression_student_has_one_output_and_its_config_names_the_problem_type(tmp_path):
    model, _ = load_student(save("bert", tmp_path), [], 0)
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")


def test_no_row_has_more_tokens_than_the_student_has_positions(tmp_path):
    model, tokenizer = load_student(save("roberta", tmp_path), LABELS, 0)
    tokenizer.model_max_length = int(1e30)
    limit = length_limit(model, tokenizer, 1000)
    tokens = tokenize(tokenizer, [("good " * 100,)], limit)
    assert tokens.lengths.tolist() == [limit]
    model(**tokens.batch([0], CPU))
