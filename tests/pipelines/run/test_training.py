"""An impossible run is refused before anything is loaded."""

import pytest

from pipelines.run.request import RunRequest
from pipelines.run.training import run_training
from teacher_cache import ArmadaError
from tests.distill.tiny import save_student


def test_selecting_an_epoch_on_a_split_without_rows_is_refused(tmp_path):
    from distill.settings import TrainSettings

    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}: a good plane", "sentiment": "neutral"}}')
    request = RunRequest(
        "demo/sentiment",
        str(save_student(tmp_path / "student")),
        tmp_path / "out",
        control="undistilled",
        data_files=tmp_path,
        settings=TrainSettings(select="validation"),
    )
    with pytest.raises(ArmadaError, match="--select validation: expected rows in that split of demo/sentiment"):
        run_training(request)
