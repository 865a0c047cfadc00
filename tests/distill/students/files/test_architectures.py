"""Students by their task head: every architecture of transformers that has one trains, and is exported as it was."""

import json

import pytest
import torch
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from distill.dataset.tokens import tokenize
from distill.students.export import export_student
from distill.students.files.architectures import positions_of, skeleton
from distill.students.generation import load_generator
from distill.students.heads import dropouts, head_modules, task_head
from distill.students.loading import StudentSpec, load_student
from distill.students.lora import merge_lora
from distill.students.pooling import pooled_and_logits, pooled_width
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student
from tests.distill.training.test_trainer import LABELS, ROWS, run, teacher_targets

CPU = torch.device("cpu")
COLUMNS = ["input_ids", "token_type_ids", "attention_mask"]
ENCODERS = ("bert", "roberta", "deberta-v2", "modernbert", "distilbert", "electra", "albert", "mpnet")
DECODERS = ("llama", "mistral", "gemma", "phi", "gpt2", "gpt_neo", "smollm3", "olmo", "opt")
ALL = (*ENCODERS, *DECODERS, "t5")


def save(kind, folder, layers=1, **changes):
    return str((save_student if kind in ENCODERS else save_decoder)(folder, kind, layers, **changes))


@pytest.mark.parametrize("kind", ALL)
def test_a_student_of_any_architecture_trains_and_is_exported_with_its_logits(tmp_path, kind):
    path = save(kind, tmp_path / "start")
    model, epochs = run(path, tmp_path, teacher_targets(1), epochs=1, max_steps=1, warmup=0.0, lr=1e-2)
    start, tokenizer = load_student(path, LABELS, 0)
    before, after = start.state_dict(), model.eval().state_dict()
    assert any(not torch.equal(after[name], before[name]) for name in after if name.startswith(head_modules(model)))
    assert any(not torch.equal(after[name], before[name]) for name in after if not name.startswith(head_modules(model)))
    assert epochs[0].manifold is not None
    export_student(model, tokenizer, tmp_path / "export", "card")

    stock, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(report.values())
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    batch = words([text for (text,) in ROWS.texts], padding=True, return_tensors="pt")
    with torch.inference_mode():
        theirs = stock.eval()(**batch).logits
        pooled, ours = pooled_and_logits(model, tokenize(tokenizer, ROWS.texts, 32).batch(range(len(ROWS)), CPU))
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert torch.allclose(task_head(model)[1](pooled), theirs, atol=1e-5)  # s is what enters the last layer
    assert pooled.shape == (len(ROWS), pooled_width(model))
    assert theirs.std() > 0


@pytest.mark.parametrize("kind", ["bert", "distilbert", "albert"])
def test_the_pooled_output_is_what_it_is_without_the_dropout_before_the_last_layer(tmp_path, kind):
    model, tokenizer = load_student(save(kind, tmp_path), LABELS, 0)
    batch = tokenize(tokenizer, ROWS.texts, 32).batch(range(9), CPU)
    model.eval()
    clean = pooled_and_logits(model, batch)
    (last,) = dropouts(model)
    last.p, last.training = 0.9, True
    dropped = pooled_and_logits(model, batch)
    assert torch.equal(dropped[0], clean[0])
    assert not torch.allclose(dropped[1], clean[1], atol=1e-5)


@pytest.mark.parametrize("kind", ["distilbert", "t5", "gpt2", "gpt_neo", "smollm3"])
def test_the_first_layers_of_any_architecture_are_kept_as_they_are(tmp_path, kind):
    path = save(kind, tmp_path / "start", layers=4)
    whole = AutoModelForSequenceClassification.from_pretrained(path).state_dict()
    model, tokenizer = load_student(StudentSpec(path, layers=2), LABELS, 0)
    body = {name: value for name, value in model.state_dict().items() if name.startswith(f"{model.base_model_prefix}.")}
    assert 0 < len(body) < len([name for name in whole if name.startswith(model.base_model_prefix)])
    assert all(torch.equal(value, whole[name]) for name, value in body.items())
    export_student(model, tokenizer, tmp_path / "export", "card")
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "export").config.num_hidden_layers == 2


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "gpt2", "t5"])
def test_lora_trains_the_whole_head_of_any_architecture_and_merges_into_the_stock_model(tmp_path, kind):
    path = save(kind, tmp_path)
    model, _ = load_student(StudentSpec(path, lora_rank=2), LABELS, 0)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    heads = tuple(f"{name}." for name in head_modules(model))
    assert {name for name, _ in model.named_parameters() if name.startswith(heads)} <= trained
    assert all("lora_" in name or name.startswith(heads) for name in trained)
    assert any("lora_" in name for name in trained)
    merge_lora(model)
    start = load_student(path, LABELS, 0)[0].state_dict()
    assert all(torch.allclose(value, start[name]) for name, value in model.state_dict().items())


def test_the_layers_of_gpt2_have_names_that_low_rank_layers_can_be_added_to(tmp_path):
    spec = StudentSpec(save("gpt2", tmp_path), lora_rank=2, lora_targets=("c_attn",))
    names = [name for name, _ in load_student(spec, LABELS, 0)[0].named_parameters() if "lora_" in name]
    assert names
    assert all("c_attn" in name for name in names)


def test_the_task_head_of_every_architecture_that_transformers_has_is_found():
    found, without = [], []
    for kind in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        try:
            config = kind(num_labels=3, pad_token_id=0)
            config.num_hidden_layers = min(config.num_hidden_layers, 2)
            model = skeleton(config, AutoModelForSequenceClassification)
        except Exception:  # defaults that fit no model, or a package that is not installed
            continue
        try:
            assert task_head(model)[1].out_features == 3
            assert head_modules(model)
            found.append(config.model_type)
        except ArmadaError:
            without.append(config.model_type)
    assert len(found) > 60
    assert set(without) <= {"perceiver"}  # whose logits come out of its body


def test_an_architecture_without_a_task_head_is_refused_with_what_is_needed(tmp_path):
    path = save("bert", tmp_path)
    AutoConfig.for_model("mamba", hidden_size=16, num_hidden_layers=1, vocab_size=21).save_pretrained(path)
    with pytest.raises(ArmadaError, match=r"with a class for sequence classification.* found the architecture mamba"):
        load_student(path, LABELS, 0)


def test_a_model_whose_head_is_not_linear_is_refused_by_name(tmp_path):
    model, tokenizer = load_student(save("bert", tmp_path), LABELS, 0)
    model.classifier = torch.nn.Bilinear(16, 16, 3)
    with pytest.raises(
        ArmadaError, match=r"no task head in BertForSequenceClassification \(bert\); expected .* 3 outputs"
    ):
        pooled_and_logits(model, tokenize(tokenizer, ROWS.texts, 32).batch([0], CPU))


def test_a_tokenizer_that_adds_no_end_token_is_refused_where_the_head_reads_it(tmp_path):
    path = save("t5", tmp_path)
    written = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps({**written, "post_processor": None}))
    with pytest.raises(ArmadaError, match=r"expected a tokenizer that suits T5ForSequenceClassification: .*<eos>"):
        load_student(path, LABELS, 0)


def test_an_encoder_is_refused_for_a_generation_task(tmp_path):
    with pytest.raises(
        ArmadaError, match=r"expected a decoder for a generation task .* found electra, which is an enc"
    ):
        load_generator(StudentSpec(save("electra", tmp_path)), 0)


@pytest.mark.parametrize(("kind", "positions"), [("mpnet", 32), ("roberta", 33), ("gpt2", 32), ("t5", 1000)])
def test_a_student_reads_as_many_tokens_as_its_positions_allow(tmp_path, kind, positions):
    model, tokenizer = load_student(save(kind, tmp_path), LABELS, 0)
    tokenizer.model_max_length = int(1e30)
    limit = positions_of(model, tokenizer, 1000)
    assert limit == positions
    model(**tokenize(tokenizer, [("good " * 2000,)], limit).batch([0], CPU))


def test_the_columns_that_a_model_does_not_read_are_not_exported(tmp_path):
    path = save("distilbert", tmp_path / "start")
    written = json.loads((tmp_path / "start" / "tokenizer_config.json").read_text())
    (tmp_path / "start" / "tokenizer_config.json").write_text(json.dumps({**written, "model_input_names": COLUMNS}))
    assert "token_type_ids" in AutoTokenizer.from_pretrained(path)("good")
    model, tokenizer = load_student(path, LABELS, 0)
    export_student(model, tokenizer, tmp_path / "export", "card")
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert list(words("good")) == ["input_ids", "attention_mask"]
