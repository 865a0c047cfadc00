"""A run refuses processes that would not train as one."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipelines.run_request import RunRequest
from pipelines.training import _accelerator, run_training
from teacher_cache import ArmadaError
from tests.distill.tiny import save_student

REQUEST = RunRequest("demo/sentiment", "minilm", Path("out"))


def pretend(monkeypatch, processes, kind):
    found = SimpleNamespace(num_processes=processes, distributed_type=SimpleNamespace(value=kind))
    monkeypatch.setattr("accelerate.Accelerator", lambda **_: found)


def test_processes_that_do_not_see_each_other_stop_instead_of_training_twice(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    pretend(monkeypatch, 1, "NO")
    with pytest.raises(ArmadaError, match="expected 2 processes, as the launcher says, found 1"):
        _accelerator(REQUEST)


def test_sharded_weights_are_refused_since_no_checkpoint_of_them_is_written(monkeypatch):
    pretend(monkeypatch, 1, "FSDP")
    with pytest.raises(ArmadaError, match="expected one process or DDP, found FSDP"):
        _accelerator(REQUEST)


def test_an_epoch_cannot_be_picked_on_a_split_without_rows(tmp_path):
    from distill.settings import TrainSettings

    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a good plane", "sentiment": "neutral"}')
    request = RunRequest(
        "demo/sentiment",
        str(save_student(tmp_path / "student")),
        tmp_path / "out",
        control="undistilled",
        data_file=tmp_path,
        settings=TrainSettings(select="validation"),
    )
    with pytest.raises(ArmadaError, match="--select validation: expected rows in that split of demo/sentiment"):
        run_training(request)
