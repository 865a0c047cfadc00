"""One run of a study: an arm and a seed, in a folder like that of `armada train`, with what the read-outs say of it.

`outcome.json` is written last: a run whose outcome stands is finished and isn't touched again.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.files import read_json
from pipelines.run.request import RunRequest, layered, make_request
from pipelines.study.config import Study
from pipelines.study.declared.parts import FewShot
from pipelines.study.predictions import save_predictions, score_predictions

if TYPE_CHECKING:
    import torch

    from distill import Shared, Split, TaskModel

OUTCOME = "outcome.json"


@dataclass(frozen=True)
class Run:
    """`kind` is "finetune" (with the probe on its student) or "few_shot"."""

    kind: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder under `runs`."""
        return f"{self.kind}/{self.arm}-seed{self.seed}"


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """What a finished run found; None where it isn't finished."""
    path = folder / OUTCOME
    return read_json(path, "armada study") if path.exists() else None


def enter_process(folder: Path, threads: int) -> None:
    """Make this process one run's: what it prints goes into the run's log, and it computes with so many threads."""
    log = (folder / "log.txt").open("a", encoding="utf-8", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    import torch

    torch.set_num_threads(threads)


def run_one(
    study: Study, run: Run, folder: Path, cache: str, splits: Any, *, keeps_students: bool = True
) -> dict[str, Any]:
    """Train, read out, and write the outcome. A run that was stopped goes on where it was."""
    from pipelines.cleaning import find_items, remove
    from pipelines.files import write_json
    from pipelines.study.ledger.digests import source_digest

    started = time.monotonic()
    work = _few_shot if run.kind == "few_shot" else _finetune
    predictions, curve, seconds = work(study, run, folder, cache, splits)
    found = {name: score_predictions(study.card, values, splits.test) for name, values in predictions.items()}
    save_predictions(folder, predictions, splits.test.ids)
    outcome = {
        "arm": run.arm,
        "seed": run.seed,
        "readouts": found,
        "curve": curve,
        "train_seconds": seconds,
        "seconds": time.monotonic() - started,
        "source_sha256": source_digest(),
    }
    write_json(folder / OUTCOME, outcome)
    if not keeps_students:  # a finished run isn't done again, and its report needs the outcome and the predictions
        for item in find_items([folder]):
            remove(item)
    return outcome


def request_of(
    study: Study, run: Run, folder: Path, cache: str, settings: dict[str, Any], **options: Any
) -> RunRequest:
    """The request of a run. Later layers win: what the study says of all runs, `settings`, its arm, and `options`.

    A file that names no objective means `armada`, whatever `armada train` chooses: a registered file keeps its meaning.
    """
    of_all = {
        "objective": "armada",
        "cache": cache,
        "teacher": study.teacher,
        "encoder": study.encoder,
        "layers": study.layers,
        "samples": study.samples,
        "combine": study.combine,
        "student": study.student,
    }
    arm = layered(layered(of_all, settings), study.arms[run.arm].options)
    said = {
        **arm,
        **{name: study.path_of(arm[name]) for name in ("features", "feature_keys") if arm.get(name)},
        **study.task_options,
        "out": folder,
        "seed": run.seed,
    }
    return make_request({**said, **options}, f"study {study.name}, arm {run.arm}")


def _finetune(study: Study, run: Run, folder: Path, cache: str, splits: Any) -> tuple[dict[str, Any], list[Any], float]:
    from distill import pooled_outputs, probe, tokenize
    from pipelines.run.training import run_training

    result = run_training(request_of(study, run, folder, cache, study.settings), splits)
    student, device, shared = _student(study, folder, splits.train)
    predictions = {}
    if study.readouts.finetune:
        predictions["finetune"] = student.predictions(splits.test, device, "test", shared)
    if study.readouts.probe:
        train, test = (
            pooled_outputs(student.model, tokenize(student.tokenizer, split.texts, student.limit), device)
            for split in (splits.train, splits.test)
        )
        predictions["probe"] = probe(train, splits.train.labels, test, run.seed, student.model.config.num_labels)
    return predictions, _curve(folder), result.train_seconds


def _few_shot(study: Study, run: Run, folder: Path, cache: str, splits: Any) -> tuple[dict[str, Any], list[Any], float]:
    from dataclasses import replace

    from distill import UNDISTILLED, generator_of
    from pipelines.run.training import run_training

    few = study.readouts.few_shot
    assert few is not None
    started = time.monotonic()
    changes: dict[str, Any] = {"control": UNDISTILLED, "manifold": "relational"}
    if run.arm in study.masked_arms or study.arms[run.arm].control != UNDISTILLED:
        changes |= {"student": str(_pretrained(study, few, run, folder, cache, splits)), "layers": None}
    questions = generator_of("armada-few-shot/1", study.task_name, run.seed, 0).permutation(len(splits.train.questions))
    request = request_of(study, run, folder, cache, few.settings, **changes)
    run_training(request, replace(splits, train=splits.train.take_questions(questions[: few.labelled])))
    trained, device, shared = _student(study, folder, splits.train)
    predictions = {"few_shot": trained.predictions(splits.test, device, "test", shared)}
    return predictions, _curve(folder), time.monotonic() - started


def _pretrained(study: Study, few: FewShot, run: Run, folder: Path, cache: str, splits: Any) -> Path:
    """The pre-trained student's folder; made where it isn't there. The task's labels are not given to the training."""
    from pipelines.pretraining.masked_words import MASKED, pretrain_masked
    from pipelines.pretraining.pretraining import pretrain_rows
    from pipelines.pretraining.request import without_labels
    from pipelines.run.features import card_mending

    home = folder / "pretrained"
    request = request_of(study, run, home, cache, {**study.settings, **few.pretraining}, manifold="relational")
    rows, objective = without_labels(splits.train), few.objective_of(run.arm)
    if objective == MASKED:
        pretrain_masked(request, rows)
    else:
        pretrain_rows(request, rows, lambda found: card_mending(request, found), objective)
    return home / "student"


def _student(study: Study, folder: Path, train: Split) -> tuple[TaskModel, torch.device, Shared]:
    """The exported student of a run as a task model, its device, and the precision of its evaluation."""
    import torch

    from distill import Shared, StudentSpec, TrainSettings, open_task_model

    record = read_json(folder / "run.json", "armada train")  # evaluate as the run has done
    said = record["settings"]["student"]
    settings = TrainSettings(max_length=said["max_length"], seed=said["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = StudentSpec(str(folder / "student"))
    student = open_task_model(spec, study.card, train, settings, "relu")  # no scale: an exported head gives labels
    student.model.to(device)
    return student, device, Shared(precision=record["precision"])


def _curve(folder: Path) -> list[Any]:
    """The task loss of each epoch."""
    return [epoch["task"] for epoch in read_json(folder / "run.json", "armada train", epochs=list)["epochs"]]
