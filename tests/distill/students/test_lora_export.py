"""An unmerged export: stock peft loads it on the untrained student and gives the trained student's logits."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification, PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification

from distill.students.loading import StudentSpec, load_student
from distill.students.lora import check_adapter
from pipelines.run.request import make_request
from pipelines.run.training import run_training
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder, save_student, split

CLASSES = ["negative", "neutral", "positive"]


def write(folder, rows):
    folder.mkdir(exist_ok=True)
    for name in ("train", "validation", "test"):
        lines = [
            json.dumps({key: f"{name} {value}" if key in ("text", "question") else value for key, value in row.items()})
            for row in rows
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder)


def train(tmp_path, student, **options):
    rows = [{"text": text, "sentiment": CLASSES[row % 3]} for row, text in enumerate(split(24).prompts)]
    found = {
        "task": "demo/sentiment", "data_files": write(tmp_path / "data", rows), "student": str(student), "lr": 1e-2,
        "control": "undistilled", "batch_size": 8, "epochs": 2, "precision": "fp32", "lora_rank": 4,
        "lora_dropout": 0.1, "lora_alpha": 6.0, "out": str(tmp_path / "merged"),
    }  # fmt: skip
    result = run_training(make_request({**found, **options}))
    return result, tmp_path / "merged" / "student"


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_peft_loads_the_adapter_on_the_student_and_gives_the_logits_of_the_merged_export(tmp_path, kind):
    save = save_decoder if kind == "llama" else save_student
    student = save(tmp_path / "student", kind, **({"pad": "<pad>"} if kind == "llama" else {}))
    merged, whole = train(tmp_path, student)
    apart, _ = train(tmp_path, student, lora_export="adapter", out=str(tmp_path / "adapter"))
    folder = tmp_path / "adapter" / "student"
    assert apart.metrics == merged.metrics
    assert not (folder / "model.safetensors").exists()
    names = load_file(folder / "adapter_model.safetensors")
    assert all("lora_" in name or ".score." in name or ".classifier." in name for name in names)
    options = {"num_labels": 3, "ignore_mismatched_sizes": True}  # the student has a head of two classes
    base = AutoModelForSequenceClassification.from_pretrained(student, **options).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    untrained = base(**inputs).logits
    found = PeftModel.from_pretrained(base, folder).eval()
    config = AutoConfig.from_pretrained(folder)
    assert [config.id2label[place] for place in range(3)] == CLASSES
    auto = AutoPeftModelForSequenceClassification.from_pretrained(folder, **options).eval()
    expected = AutoModelForSequenceClassification.from_pretrained(whole).eval()(**inputs).logits
    for model in (found, auto):
        assert torch.allclose(model(**inputs).logits, expected, atol=1e-5)
    assert not torch.allclose(untrained, expected, atol=1e-3)
    assert "AutoPeftModelForSequenceClassification" in (folder / "README.md").read_text()


def test_a_generative_students_adapter_has_no_head_of_its_own(tmp_path):
    rows = [{"question": f"my plane is {number} good", "answer": str(number % 4)} for number in range(24)]
    student = save_decoder(tmp_path / "student", causal=True)
    options = {"task": "demo/word-problems", "data_files": write(tmp_path / "answers", rows)}
    train(tmp_path, student, **options, lora_export="adapter")
    folder = tmp_path / "merged" / "student"
    model = AutoPeftModelForCausalLM.from_pretrained(folder)
    assert all("lora_" in name for name in load_file(folder / "adapter_model.safetensors"))
    assert model.peft_config["default"].lora_alpha == 6.0
    assert model(input_ids=torch.tensor([[2, 5, 6]])).logits.shape == (1, 3, 30)


def test_weights_that_only_the_seed_knows_are_not_left_out_of_an_export(tmp_path):
    """A pooler that the files lack is random, and another one wherever the adapter is loaded."""
    from transformers import AutoModelForMaskedLM

    student = save_student(tmp_path)
    config = AutoConfig.from_pretrained(student)
    AutoModelForMaskedLM.from_config(config).save_pretrained(student)
    model, _ = load_student(StudentSpec(str(student), lora_rank=2), CLASSES, 0)
    with pytest.raises(
        ArmadaError, match=r"--lora-export adapter: mine: expected a student whose files .* bert.pooler"
    ):
        check_adapter("mine", model)


def test_alpha_scales_what_the_adapters_add(tmp_path):
    student = save_student(tmp_path)
    scales = set()
    for alpha in (None, 3.0):
        model, _ = load_student(StudentSpec(str(student), lora_rank=2, lora_alpha=alpha, lora_dropout=0.25), CLASSES, 0)
        layer = model.bert.encoder.layer[0].attention.self.query
        scales.add(layer.scaling["default"])
        assert layer.lora_dropout["default"].p == 0.25
    assert scales == {2.0, 1.5}
