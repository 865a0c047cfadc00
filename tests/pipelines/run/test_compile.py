"""`--compile`: the student is compiled while it trains, and the result is that of a run that compiles nothing."""

import json
import shutil

import pytest

from pipelines.run import processes
from pipelines.run.request import make_request
from teacher_cache import ArmadaError
from tests.distill.tiny import save_student, split
from tests.pipelines.cli import armada


def test_a_machine_without_a_compiler_is_told_so_before_training(monkeypatch):
    request = make_request({"task": "t", "student": "s", "out": "o", "compile": True})
    monkeypatch.setattr(processes.shutil, "which", lambda name: None)
    with pytest.raises(ArmadaError, match=r"--compile: expected a C\+\+ compiler .* found none; install g\+\+"):
        processes._compiler(request)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_a_compiled_run_gives_the_losses_of_a_plain_one_and_says_that_it_was_compiled(tmp_path):
    student = save_student(tmp_path / "student", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (tmp_path / "data").mkdir()
    for name in ("train", "test"):
        texts = [f"{name} {text}" for text in split(24).prompts]
        rows = [{"text": text, "sentiment": ("negative", "positive")[row % 2]} for row, text in enumerate(texts)]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["train", "--task", "demo/sentiment", "--data-files", tmp_path / "data", "--student", student]
    words += ["--control", "undistilled", "--precision", "fp32", "--epochs", 1, "--batch-size", 8]
    records = []
    for flags in ((), ("--compile",)):
        out = tmp_path / ("compiled" if flags else "plain")
        run = armada(*words, *flags, "--out", out)
        assert run.returncode == 0, run.stderr
        records.append(json.loads((out / "run.json").read_text()))
    plain, compiled = records
    assert (plain["compiled"], compiled["compiled"]) == (False, True)
    assert compiled["identity"] == plain["identity"]
    assert compiled["epochs"][0]["loss"] == pytest.approx(plain["epochs"][0]["loss"], rel=1e-4)
