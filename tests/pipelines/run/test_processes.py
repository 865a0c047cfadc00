"""Processes that would not train as one are refused; sharded processes write what a single process writes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from pipelines.run.processes import start_processes
from pipelines.run.request import RunRequest
from teacher_cache import ArmadaError
from tests.distill.tiny import save_decoder
from tests.pipelines.cli import ROOT, armada, environment

REQUEST = RunRequest("demo/sentiment", "minilm", Path("out"))
LAUNCHER = "-m accelerate.commands.launch --use_fsdp --fsdp_version 2 --num_processes 2 --main_process_port 0"


def pretend(monkeypatch, processes, kind):
    found = SimpleNamespace(num_processes=processes, distributed_type=SimpleNamespace(value=kind))
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: found)


def test_processes_that_do_not_see_each_other_stop_instead_of_training_twice(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    pretend(monkeypatch, 1, "NO")
    with pytest.raises(ArmadaError, match="expected 2 processes, as the launcher says, found 1"):
        start_processes(REQUEST)


def test_other_ways_of_distribution_are_refused(monkeypatch):
    pretend(monkeypatch, 1, "DEEPSPEED")
    with pytest.raises(ArmadaError, match="expected one process, DDP or FSDP, found DEEPSPEED"):
        start_processes(REQUEST)


def test_four_bits_and_sharding_do_not_go_together(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    pretend(monkeypatch, 2, "MULTI_CPU")
    with pytest.raises(ArmadaError, match="--load-4bit: expected one process or DDP, found FSDP"):
        start_processes(replace(REQUEST, lora_rank=8, load_4bit=True))


@pytest.mark.slow
def test_sharded_processes_write_the_checkpoint_and_the_figures_of_one(tmp_path):
    """A generative student whose best epoch is selected: the main process needs its weights after each epoch."""
    data = tmp_path / "data"
    data.mkdir()
    for name, count in (("train", 24), ("validation", 8), ("test", 8)):
        rows = [{"question": f"my plane is {number} good", "answer": str(number % 10)} for number in range(count)]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    student = save_decoder(tmp_path / "student", layers=2, causal=True)
    words = ["train", "--task", "demo/word-problems", "--data-files", data, "--student", student]
    words += ["--control", "undistilled", "--select", "validation", "--epochs", 2, "--batch-size", 8, "--lr", 1e-3]
    alone = armada(*words, "--out", tmp_path / "one", OMP_NUM_THREADS=1)
    assert alone.returncode == 0, alone.stderr
    command = [*LAUNCHER.split(), "-m", "pipelines.cli", *words]
    run = subprocess.run(
        [sys.executable, *map(str, command), "--out", str(tmp_path / "two")],
        env=environment(OMP_NUM_THREADS=1),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 0, run.stderr
    one, two = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("one", "two"))
    assert (one["ranks"], two["ranks"]) == (1, 2)
    for name in ("identity", "metrics", "selected", "rows"):
        assert one[name] == two[name]
    start, expected, found = (
        load_file(folder / "model.safetensors")
        for folder in (student, tmp_path / "one" / "student", tmp_path / "two" / "student")
    )
    assert expected.keys() == found.keys()
    # On processors with bf16, the halves of a batch round differently from the whole.
    assert distance(expected, found) < 0.02 * distance(expected, start)


def distance(one, other):
    return sum((one[name] - other[name]).square().sum().item() for name in one) ** 0.5
