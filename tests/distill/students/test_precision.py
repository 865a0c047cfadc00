"""Low-rank layers on a base in four bits: what trains, what a checkpoint contains, and what is exported."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from distill.cards.cards import load_card
from distill.dataset.tokens import tokenize
from distill.objective.score_scale import AS_IS
from distill.settings import TrainSettings
from distill.students.evaluation import predict
from distill.students.loading import StudentSpec, load_student
from distill.students.task_model import finish_task_model, open_task_model
from distill.tasks.splits import Split
from pipelines.run.request import RunRequest, check_request
from teacher_cache import ArmadaError, MissingPackageError
from tests.distill.tiny import save_decoder, save_student
from tests.distill.training.test_trainer import LABELS, ROWS, run, teacher_targets, weights
from tests.pipelines.cli import armada, environment

CPU = torch.device("cpu")
EXPORTED = """
import sys
sys.modules["bitsandbytes"] = None
from transformers import pipeline
print(pipeline("text-generation", model=sys.argv[1])("my plane")[0]["generated_text"])
"""


@pytest.fixture
def spec(tmp_path):
    pytest.importorskip("bitsandbytes", exc_type=ImportError)
    path = save_decoder(tmp_path / "llama", layers=2)
    return StudentSpec(str(path), lora_rank=2, load_4bit=True)


class TaskModel:
    """The part of a task model that `finish_task_model` needs."""

    scale = AS_IS

    def __init__(self, spec, model):
        self.spec, self.model = spec, model

    def load(self, spec):
        return load_student(spec, LABELS, 0)


def test_the_base_is_in_four_bits_and_only_low_rank_layers_and_a_float32_head_train(spec):
    model, _ = load_student(spec, LABELS, 0)
    linear = {name: value for name, value in model.named_parameters() if "_proj.base_layer.weight" in name}
    assert len(linear) == 14
    assert all(type(value).__name__ == "Params4bit" and value.dtype == torch.uint8 for value in linear.values())
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert trained
    assert all("lora_" in name or name == "score.weight" for name in trained)
    assert {value.dtype for name, value in model.named_parameters() if name not in linear} == {torch.float32}
    whole, _ = load_student(replace(spec, load_4bit=False), LABELS, 0)
    assert model.num_parameters() == whole.num_parameters()


def test_the_export_has_the_original_weights_of_the_base_and_not_rounded_ones(spec):
    """Untrained low-rank layers add zero, so the export equals the original checkpoint to the bit."""
    task_model = TaskModel(spec, load_student(spec, LABELS, 0)[0])
    finish_task_model(task_model, CPU)
    stock = AutoModelForSequenceClassification.from_pretrained(spec.name).state_dict()
    found = task_model.model.state_dict()
    assert found.keys() == stock.keys()
    assert all(torch.equal(found[name], stock[name]) for name in stock if name != "score.weight")


def test_the_export_contains_the_trained_weights(spec, tmp_path):
    model, epochs = run(spec, tmp_path, teacher_targets(), lr=1e-2)
    assert epochs[-1].loss < epochs[0].loss
    task_model = TaskModel(spec, model)
    start, tokenizer = load_student(spec, LABELS, 0)
    tokens = tokenize(tokenizer, ROWS.texts, 32)
    before, trained = predict(start, tokens, CPU), predict(model, tokens, CPU)
    finish_task_model(task_model, CPU)
    exported = predict(task_model.model, tokens, CPU)
    assert abs(exported - trained).mean() < 0.3 * abs(before - trained).mean()  # the rounding of the base


def test_a_stopped_run_resumes_bit_identically_and_its_checkpoint_has_no_frozen_weights(spec, tmp_path):
    def on_step(step):
        if step == 9:
            raise KeyboardInterrupt

    whole, expected = run(spec, tmp_path / "whole", teacher_targets())
    with pytest.raises(KeyboardInterrupt):
        run(spec, tmp_path / "stopped", teacher_targets(), save_steps=2, on_step=on_step)
    kept = torch.load(tmp_path / "stopped" / "checkpoints" / "step-00000008.pt", weights_only=True)["state"]["weights"]
    assert not any("base_layer" in name or "embed" in name for name in kept)
    resumed, epochs = run(spec, tmp_path / "stopped", teacher_targets(), save_steps=2)
    assert [epoch.loss for epoch in epochs] == [epoch.loss for epoch in expected]
    assert torch.equal(weights(whole), weights(resumed))


def test_an_evaluation_between_epochs_does_not_change_training(spec):
    """On some processors bitsandbytes repacks weights for inference, and packed weights pass no gradients."""
    gradients = []
    for evaluated in (False, True):
        model, tokenizer = load_student(spec, LABELS, 0)
        tokens = tokenize(tokenizer, ROWS.texts, 32)
        if evaluated:
            predict(model, tokens, CPU)
        model.train()(**tokens.batch(range(8), CPU)).logits.square().sum().backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.requires_grad})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])
    assert gradients[0]["model.layers.0.self_attn.q_proj.lora_B.default.weight"].abs().sum() > 0


@pytest.mark.slow
def test_a_run_in_four_bits_exports_an_ordinary_checkpoint_whose_figures_are_reported(tmp_path):
    pytest.importorskip("bitsandbytes", exc_type=ImportError)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from distill.students.generation import generate

    data = tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 24), ("validation", 8), ("test", 8)):
        rows = [{"question": f"my plane is {number} good", "answer": str(number % 4)} for number in range(count)]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    student = save_decoder(tmp_path / "student", causal=True)
    words = ["train", "--task", "demo/word-problems", "--data-files", data, "--student", student, "--batch-size", 8]
    words += ["--control", "undistilled", "--lora-rank", 4, "--lr", 3e-2, "--epochs", 6, "--out", tmp_path / "run"]
    trained = armada(*words, "--load-4bit", "--select", "validation", OMP_NUM_THREADS=1)
    assert trained.returncode == 0, trained.stderr
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    exported = tmp_path / "run" / "student"
    assert load_file(exported / "model.safetensors").keys() == load_file(student / "model.safetensors").keys()
    without = subprocess.run(
        [sys.executable, "-c", EXPORTED, exported], env=environment(), capture_output=True, text=True, timeout=120
    )
    assert without.returncode == 0, without.stderr
    model, tokenizer = AutoModelForCausalLM.from_pretrained(exported), AutoTokenizer.from_pretrained(exported)
    prompts = [f"Question: my plane is {number} good\nAnswer:" for number in range(8)]
    answers = generate(model, tokenizer, prompts, 2, 130)
    right = sum(answer.startswith(str(number % 4)) for number, answer in enumerate(answers)) / 8
    assert right == facts["metrics"]["test"]["exact_number"]
    other = armada(*words, "--select", "validation", OMP_NUM_THREADS=1)
    assert other.returncode == 2
    assert "another run is here: student.load_4bit was True, now None" in other.stderr


def test_four_bits_without_low_rank_layers_or_without_weights_are_refused(tmp_path):
    request = RunRequest("demo/sentiment", "minilm", tmp_path, control="undistilled", load_4bit=True)
    with pytest.raises(ArmadaError, match="--load-4bit: expected --lora-rank N beside it"):
        check_request(request)
    with pytest.raises(ArmadaError, match="--load-4bit: expected a student with weights of its own, found random-bert"):
        check_request(replace(request, student="random-bert-2", lora_rank=2))
    check_request(replace(request, lora_rank=2))


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setattr("distill.students.precision.find_spec", lambda name: None)
    spec = StudentSpec(str(save_student(tmp_path)), lora_rank=2, load_4bit=True)
    with pytest.raises(MissingPackageError, match=r"--load-4bit needs the package bitsandbytes: pip install 'armada-d"):
        load_student(spec, LABELS, 0)


def test_the_frozen_base_is_held_in_bf16_and_the_export_has_the_weights_of_the_files(tmp_path):
    path = save_decoder(tmp_path / "student")
    split = Split([str(row) for row in range(4)], [(f"good {row}",) for row in range(4)], ["a"] * 4, [0, 1, 2, 0])
    spec = StudentSpec(str(path), lora_rank=2, base_bf16=True)
    task_model = open_task_model(spec, load_card("demo/sentiment"), split, TrainSettings(max_length=16))
    kinds = {parameter.requires_grad: parameter.dtype for parameter in task_model.model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        model_out = task_model.model(**task_model.tokens.batch([0, 1], torch.device("cpu"))).logits
        model_out.float().sum().backward()
    finish_task_model(task_model, torch.device("cpu"))
    given = load_file(path / "model.safetensors")
    found = task_model.model.state_dict()
    assert all(torch.equal(found[name], value) for name, value in given.items() if not name.startswith("score"))
    assert {value.dtype for value in found.values()} == {torch.float32}
