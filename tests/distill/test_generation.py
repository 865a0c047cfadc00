"""A generative student learns to answer: its loss is stock transformers' own, and its s has seen no answer."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill.cards import load_card
from distill.distilled import DistilledStudent
from distill.export import export_student
from distill.generation import NO_LABEL, answer_loss, generate, load_generator, tokenize_answers
from distill.lesson import Teaching
from distill.lora import merge_lora
from distill.settings import AlignerSettings, TrainSettings
from distill.splits import Split
from distill.students import StudentHeads, StudentSpec
from distill.trainer import Keeping, train_student
from distill.work import open_work
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student

CPU = torch.device("cpu")
KINDS = ("llama", "opt", "qwen2", "qwen3")
PROMPTS = [f"my plane {number} is" for number in range(10)]
ANSWERS = [f"{number}" for number in range(10)]


def tokens_of(tokenizer, limit=32):
    return tokenize_answers(tokenizer, PROMPTS, ANSWERS, limit)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_stock_transformers(tmp_path, kind):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, kind, causal=True))), 0)
    model.eval()
    taught = tokenize_answers(tokenizer, [*PROMPTS, "good"], [*ANSWERS, "3 4 5"], 32)
    batch = taught.tokens.batch(range(11), CPU)
    pooled, logits, answers = answer_loss(model, batch, torch.tensor(taught.first))
    stock = model(**batch)
    assert torch.allclose(answers[:, 0].sum() / answers[:, 1].sum(), stock.loss, atol=1e-5)
    assert answers[:, 1].tolist() == (batch["labels"] != NO_LABEL).sum(1).tolist()
    last = batch["pooled"].argmax(1)
    assert torch.allclose(logits, stock.logits[torch.arange(11), last][:, taught.first], atol=1e-5)
    assert len(pooled) == 11


def test_nothing_of_the_answer_is_in_the_pooled_state(tmp_path):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    model.eval()
    first = torch.tensor([1, 2])
    batch = tokenize_answers(tokenizer, PROMPTS[:1] * 2, ["1", "7 7 7"], 32).tokens.batch([0, 1], CPU)
    one, other = answer_loss(model, batch, first)[0]
    assert torch.allclose(one, other, atol=1e-6)


def test_targets_are_places_among_the_first_answer_tokens(tmp_path):
    _, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    taught = tokenize_answers(tokenizer, ["a", "a", "a"], ["7 1", "3", "7"], 32)
    assert tokenizer.convert_ids_to_tokens(taught.first) == ["3", "7"]
    assert taught.targets == [1, 0, 1]
    assert taught.longest == 3


def test_what_all_answers_begin_with_tells_nothing_and_is_no_target(tmp_path):
    """Some tokenizers have a token for the space before a number."""
    _, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    taught = tokenize_answers(tokenizer, ["good", "bad"], ["the 7 1", "the 3"], 32)
    assert tokenizer.convert_ids_to_tokens(taught.first) == ["3", "7"]
    assert taught.tokens.columns["pooled"][0] == [0, 1, 0, 0, 0]
    assert taught.tokens.columns["labels"][1][1:] == taught.tokens.columns["input_ids"][1][1:]
    with pytest.raises(ArmadaError, match="expected answers that differ in a token, found 2 of '7'"):
        tokenize_answers(tokenizer, ["good", "bad"], ["7", "7"], 32)


def test_a_long_prompt_loses_its_start_and_a_long_answer_its_end(tmp_path):
    _, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    taught = tokenize_answers(tokenizer, ["good " * 20 + "bad", "good", "good"], ["1 2", "3 " * 20, "4"], 8)
    assert taught.tokens.truncated == 2
    assert taught.tokens.lengths.tolist() == [8, 8, 3]
    words = [tokenizer.convert_ids_to_tokens(row) for row in taught.tokens.columns["input_ids"]]
    assert words[0] == ["good"] * 4 + ["bad", "1", "2", "</s>"]
    assert words[1] == ["good"] + ["3"] * 7


def train(spec, folder, on_step=lambda step: None, **changes):
    from accelerate import Accelerator

    from distill.aligner import train_aligner

    model, tokenizer = load_generator(spec, 0)
    taught = tokens_of(tokenizer)
    features = torch.eye(10).half()
    settings = TrainSettings(**{"batch_size": 5, "lr": 1e-2, "epochs": 3, "schedule": "constant", **changes})
    states = train_aligner(
        features, torch.tensor(taught.targets), 10, settings.epochs, AlignerSettings(width=8, batch_size=5), 0, "k"
    )
    epochs = train_student(
        model,
        taught.tokens,
        taught.targets,
        settings,
        data_digest="digest",
        teaching=Teaching(features, states, 8),
        keeping=Keeping(folder / "checkpoints", folder / "metrics.jsonl", save_steps=1),
        accelerator=Accelerator(cpu=True),
        first=taught.first,
        on_step=on_step,
    )
    return model, tokenizer, epochs


@pytest.mark.parametrize("rank", [None, 4], ids=["full", "lora"])
def test_a_taught_student_learns_its_answers_and_its_export_writes_the_same(tmp_path, rank):
    # A start wide enough for the frozen output layer to tell answers apart, and a rate that the loss falls steadily at:
    # else the last epochs differ with each processor's rounding.
    start = save_decoder(tmp_path / "start", causal=True, initializer_range=0.5)
    spec = StudentSpec(str(start), lora_rank=rank)
    model, tokenizer, epochs = train(spec, tmp_path, epochs=40, lr=5e-3, warmup=0.0, alpha=0.1)
    assert epochs[-1].task < epochs[0].task / 2
    merge_lora(model)
    written = generate(model, tokenizer, PROMPTS, 2, 32)
    export_student(model, tokenizer, tmp_path / "export", "card")
    stock, report = AutoModelForCausalLM.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(report.values())
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert generate(stock, words, PROMPTS, 2, 32) == written


def test_a_stopped_generative_run_goes_on_as_if_unbroken(tmp_path):
    spec = StudentSpec(str(save_decoder(tmp_path / "start", causal=True)), lora_rank=2)
    train(spec, tmp_path / "whole")

    def stop(step):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path / "stopped", stop)
    train(spec, tmp_path / "stopped")
    journals = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "stopped")]
    assert journals[0] == journals[1]


def test_every_part_of_the_loss_reaches_the_student(tmp_path):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    taught = tokens_of(tokenizer)
    student = DistilledStudent(model, StudentHeads(16, 12, 10), taught.first)
    said = student(taught.tokens.batch(range(10), CPU))
    for part in (said.head, said.logits.sum(), said.aux_logits.sum(), said.projection.sum()):
        (gradient,) = torch.autograd.grad(part, model.get_input_embeddings().weight, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_prompts_of_different_lengths_are_answered_as_alone(tmp_path):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True, pad="<pad>"))), 0)
    prompts = ["good", "my plane is very late", "a phone"]
    together = generate(model, tokenizer, prompts, 4, 32)
    assert together == [generate(model, tokenizer, [prompt], 4, 32)[0] for prompt in prompts]


def test_an_encoder_is_refused_for_a_generation_task(tmp_path):
    with pytest.raises(ArmadaError, match="expected a decoder for a generation task"):
        load_generator(StudentSpec(str(save_student(tmp_path))), 0)


def test_a_generation_card_is_evaluated_by_what_its_student_writes(tmp_path):
    spec = StudentSpec(str(save_decoder(tmp_path, causal=True)))
    rows = Split(PROMPTS, [(prompt,) for prompt in PROMPTS], PROMPTS, [(answer,) for answer in ANSWERS])
    work = open_work(spec, load_card("demo/word-problems"), rows, TrainSettings())
    assert work.classes == len(work.first) == 10
    assert set(work.evaluate(rows, CPU, "test")) == {"exact_number"}
