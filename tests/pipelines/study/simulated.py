"""Finished studies without training: folders with simulated predictions, as runs leave them."""

from __future__ import annotations

import json
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines.study.config import parse_study
from pipelines.study.inputs import input_digests, study_splits
from pipelines.study.predictions import save_predictions, score_predictions
from pipelines.study.run import run_one
from pipelines.study.runner import runs_of

TEACHER, ENCODER = "fake-0123456789abcdef", "fake-encoder-0123456789abcdef"
ARMS = {"undistilled": {"control": "undistilled"}, "relational": {}, "shuffled": {"control": "shuffled"}}


def simulate_study(
    folder: Path, name: str, right: dict[str, float], readout: str = "finetune", rows: int = 200, **changes: Any
) -> Path:
    """Make the folder of a study of rows of its own, whose arms are right about these shares of the rows."""
    folder.mkdir(parents=True)
    for split, count in (("train", 6), ("test", rows)):
        lines = [{"text": f"{name} {split} {row}", "label": "ab"[row % 2]} for row in range(count)]
        path = folder / folder.name / f"{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    study = {
        "name": name,
        "question": f"Do pictures help with {name}?",
        "data_files": folder.name,  # which names the task
        "text_column": "text",
        "label_column": "label",
        "student": "random-bert-2?hidden=128",
        "teacher": "tests.fakes:FakeTeacher",
        "encoder": "tests.fakes:FakeEncoder",
        "seeds": [0, 1, 2, 3, 4],
        "arms": ARMS,
        "readouts": {"finetune": True, "probe": True},
        "primary": {"readout": readout, "arm": "relational", "against": ["undistilled", "shuffled"], "margin": 0.02},
        **changes,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    file = parse_study(path.read_bytes(), path)
    test = study_splits(file.study).test
    generator = np.random.default_rng(len(name))
    for run in runs_of(file.study):
        place = folder / "out" / "runs" / run.name
        place.mkdir(parents=True)
        predictions = {}
        for one in ("finetune", "probe"):
            is_right = generator.random(len(test)) < right[run.arm]
            predictions[one] = np.eye(2)[np.where(is_right, test.labels, 1 - np.asarray(test.labels))]
        save_predictions(place, predictions, test.ids)
        scores = {one: score_predictions(file.study.card, values, test) for one, values in predictions.items()}
        outcome = {"arm": run.arm, "seed": run.seed, "readouts": scores, "curve": [1.0, 0.5]}
        outcome |= {"train_seconds": 1.0, "seconds": 2.0, "source_sha256": "5" * 64}
        (place / "outcome.json").write_text(json.dumps(outcome))
        features = None if run.arm == "undistilled" else {"teacher": TEACHER, "encoder": ENCODER, "digest": "f" * 64}
        record = {"identity": {"train_digest": "1" * 64, "test_digest": "2" * 64, "view_digest": "3" * 64}}
        record |= {"features": features, "versions": {"armada-distill": "0.1.0"}, "git": None}
        (place / "run.json").write_text(json.dumps(record))
    state = {"digests": [file.digest], "text": file.text, "file": str(path), "inputs": input_digests(file.study)}
    (folder / "out" / "study.json").write_text(json.dumps({**state, "commits": ["c" * 64]}))
    return folder / "out"


def write_pilot(folder: Path, task: str, worth: str, rows: int = 300) -> Path:
    """Write what a pilot of the simulated teacher and encoder said of a task."""
    gain = {"mean": 0.1, "low": 0.04, "high": 0.16}
    judgement = {"worth": worth, "sentence": f"{worth.capitalize()}: as seen.", "rows": rows}
    found = {"task": task, "teacher": TEACHER, "encoder": ENCODER}
    folder.mkdir(parents=True)
    path = folder / "pilot.json"
    path.write_text(json.dumps({**found, "judgement": {**judgement, "pictures_over_shuffled": gain}}))
    return path


class InThisProcess:
    """Runs of a study one after the other in the test's own process, which has its heavy packages already."""

    exitcode = None

    def __init__(self, target: Any = None, args: tuple[Any, ...] = (), name: str = "") -> None:
        self.args, self.name = args, name
        self.sentinel, self._end = Pipe(duplex=False)

    @classmethod
    def get_context(cls, method: str) -> type[InThisProcess]:
        """Stand in for multiprocessing's function of this name."""
        cls.Process = cls
        return cls

    @staticmethod
    def set_forkserver_preload(names: list[str]) -> None:
        """Preload nothing."""

    def start(self) -> None:
        """Do the run, and be ended."""
        run_one(*self.args[:5])
        self.exitcode = 0
        self._end.close()
