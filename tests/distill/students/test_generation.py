"""Generative students: the loss equals that of stock transformers, and s does not depend on the answer."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill.cards.cards import load_card
from distill.objective.targets import TeacherTargets
from distill.settings import AlignerSettings, TrainSettings
from distill.students.distilled import DistilledStudent
from distill.students.export import export_student
from distill.students.generation import NO_LABEL, answer_loss, generate, load_generator, tokenize_answers
from distill.students.heads import StudentHeads
from distill.students.loading import StudentSpec
from distill.students.lora import merge_lora
from distill.students.task_model import open_task_model
from distill.tasks.splits import Split
from distill.training.trainer import CheckpointConfig, train_student
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student

CPU = torch.device("cpu")
KINDS = ("llama", "opt", "qwen2", "qwen3", "gpt2", "gpt_neo", "phi", "gemma2", "granite")
SCALED = {
    "gemma2": {"final_logit_softcapping": 0.05},
    "granite": {"logits_scaling": 8.0},
}  # as some models scale logits
PROMPTS = [f"my plane {number} is" for number in range(10)]
ANSWERS = [f"{number}" for number in range(10)]


def tokens_of(tokenizer, limit=32):
    return tokenize_answers(tokenizer, PROMPTS, ANSWERS, limit)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_stock_transformers(tmp_path, kind):
    path = save_decoder(tmp_path, kind, causal=True, **SCALED.get(kind, {}))
    model, tokenizer = load_generator(StudentSpec(str(path)), 0)
    model.eval()
    if kind == "phi":
        torch.nn.init.normal_(model.lm_head.bias)
    tokenized = tokenize_answers(tokenizer, [*PROMPTS, "good"], [*ANSWERS, "3 4 5"], 32)
    batch = tokenized.tokens.batch(range(11), CPU)
    pooled, logits, answers = answer_loss(model, batch, torch.tensor(tokenized.first))
    stock = model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")})
    assert torch.allclose(answers[:, 0].sum() / answers[:, 1].sum(), stock.loss, atol=1e-5)
    assert answers[:, 1].tolist() == (batch["labels"] != NO_LABEL).sum(1).tolist()
    last = batch["pooled"].argmax(1)
    assert torch.allclose(logits, stock.logits[torch.arange(11), last][:, tokenized.first], atol=1e-5)
    assert len(pooled) == 11


def test_the_pooled_state_does_not_depend_on_the_answer(tmp_path):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    model.eval()
    first = torch.tensor([1, 2])
    batch = tokenize_answers(tokenizer, PROMPTS[:1] * 2, ["1", "7 7 7"], 32).tokens.batch([0, 1], CPU)
    one, other = answer_loss(model, batch, first)[0]
    assert torch.allclose(one, other, atol=1e-6)


def test_targets_are_places_among_the_first_answer_tokens(tmp_path):
    _, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    tokenized = tokenize_answers(tokenizer, ["a", "a", "a"], ["7 1", "3", "7"], 32)
    assert tokenizer.convert_ids_to_tokens(tokenized.first) == ["3", "7"]
    assert tokenized.targets == [1, 0, 1]
    assert tokenized.longest == 3


def test_tokens_that_all_answers_start_with_are_not_targets(tmp_path):
    """Some tokenizers have a token for the space before a number."""
    _, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    tokenized = tokenize_answers(tokenizer, ["good", "bad"], ["the 7 1", "the 3"], 32)
    assert tokenizer.convert_ids_to_tokens(tokenized.first) == ["3", "7"]
    assert tokenized.tokens.columns["pooled"][0] == [0, 1, 0, 0, 0]
    assert tokenized.tokens.columns["labels"][1][1:] == tokenized.tokens.columns["input_ids"][1][1:]
    with pytest.raises(ArmadaError, match="expected answers that differ in a token, found 2 of '7'"):
        tokenize_answers(tokenizer, ["good", "bad"], ["7", "7"], 32)


def test_a_long_prompt_loses_its_start_and_a_long_answer_its_end(tmp_path):
    _, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    tokenized = tokenize_answers(tokenizer, ["good " * 20 + "bad", "good", "good"], ["1 2", "3 " * 20, "4"], 8)
    assert tokenized.tokens.truncated == 2
    assert tokenized.tokens.lengths.tolist() == [8, 8, 3]
    words = [tokenizer.convert_ids_to_tokens(row) for row in tokenized.tokens.columns["input_ids"]]
    assert words[0] == ["good"] * 4 + ["bad", "1", "2", "</s>"]
    assert words[1] == ["good"] + ["3"] * 7


def train(spec, folder, on_step=lambda step: None, **changes):
    from accelerate import Accelerator

    from distill.objective.aligner import train_aligner

    model, tokenizer = load_generator(spec, 0)
    tokenized = tokens_of(tokenizer)
    features = torch.eye(10).half()
    settings = TrainSettings(**{"batch_size": 5, "lr": 1e-2, "epochs": 3, "schedule": "constant", **changes})
    states = train_aligner(
        features, torch.tensor(tokenized.targets), 10, settings.epochs, AlignerSettings(width=8, batch_size=5), 0, "k"
    )
    epochs = train_student(
        model,
        tokenized.tokens,
        tokenized.targets,
        settings,
        data_digest="digest",
        teacher_targets=TeacherTargets(features, states, 8),
        checkpoint_config=CheckpointConfig(folder / "checkpoints", folder / "metrics.jsonl", save_steps=1),
        accelerator=Accelerator(cpu=True),
        first=tokenized.first,
        on_step=on_step,
    )
    return model, tokenizer, epochs


@pytest.mark.parametrize("rank", [None, 4], ids=["full", "lora"])
def test_a_distilled_student_learns_its_answers_and_its_export_generates_the_same(tmp_path, rank):
    # The initial weights are wide enough for the frozen output layer to tell answers apart, and the loss falls steadily
    # at this rate; otherwise the last epochs depend on the rounding of the processor.
    start = save_decoder(tmp_path / "start", causal=True, initializer_range=0.5)
    model, tokenizer, epochs = train(
        StudentSpec(str(start), lora_rank=rank), tmp_path, epochs=40, lr=5e-3, warmup=0.0, alpha=0.1
    )
    assert epochs[-1].task < epochs[0].task / 2
    merge_lora(model)
    written = generate(model, tokenizer, PROMPTS, 2, 32)
    export_student(model, tokenizer, tmp_path / "export", "card")
    stock, report = AutoModelForCausalLM.from_pretrained(tmp_path / "export", output_loading_info=True)
    assert not any(report.values())
    words = AutoTokenizer.from_pretrained(tmp_path / "export")
    assert generate(stock, words, PROMPTS, 2, 32) == written


def test_a_stopped_generative_run_resumes_as_if_uninterrupted(tmp_path):
    spec = StudentSpec(str(save_decoder(tmp_path / "start", causal=True)), lora_rank=2)
    train(spec, tmp_path / "whole")

    def stop(step):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(spec, tmp_path / "stopped", stop)
    train(spec, tmp_path / "stopped")
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "stopped")]
    assert logs[0] == logs[1]


def test_every_part_of_the_loss_reaches_the_student(tmp_path):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True))), 0)
    tokenized = tokens_of(tokenizer)
    student = DistilledStudent(model, StudentHeads(16, 12, 10), tokenized.first)
    outputs = student(tokenized.tokens.batch(range(10), CPU))
    for part in (outputs.head, outputs.logits.sum(), outputs.aux_logits.sum(), outputs.projection.sum()):
        (gradient,) = torch.autograd.grad(part, model.get_input_embeddings().weight, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_the_answer_to_a_prompt_does_not_depend_on_the_other_prompts_of_its_batch(tmp_path):
    model, tokenizer = load_generator(StudentSpec(str(save_decoder(tmp_path, causal=True, pad="<pad>"))), 0)
    prompts = ["good", "my plane is very late", "a phone"]
    together = generate(model, tokenizer, prompts, 4, 32)
    assert together == [generate(model, tokenizer, [prompt], 4, 32)[0] for prompt in prompts]


def test_an_encoder_is_refused_for_a_generation_task(tmp_path):
    with pytest.raises(ArmadaError, match="expected a decoder for a generation task"):
        load_generator(StudentSpec(str(save_student(tmp_path))), 0)


def test_a_generation_card_is_scored_by_the_text_that_its_student_generates(tmp_path):
    spec = StudentSpec(str(save_decoder(tmp_path, causal=True)))
    rows = Split(PROMPTS, [(prompt,) for prompt in PROMPTS], PROMPTS, [(answer,) for answer in ANSWERS])
    task_model = open_task_model(spec, load_card("demo/word-problems"), rows, TrainSettings())
    assert task_model.classes == len(task_model.first) == 10
    assert set(task_model.evaluate(rows, CPU, "test")) == {"exact_number"}
