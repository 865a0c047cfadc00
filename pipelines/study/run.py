"""One run of a study: an arm and a seed, in a folder like that of `armada train`, with what the read-outs say of it.

`outcome.json` is written last: a run whose outcome stands is finished and isn't touched again.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.run.request import RunRequest, make_request
from pipelines.study.config import FewShot, Study

OUTCOME, PREDICTIONS = "outcome.json", "predictions.npz"


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
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def run_one(study: Study, run: Run, folder: Path, cache: str, splits: Any) -> dict[str, Any]:
    """Train, read out, and write the outcome. A run that was stopped goes on where it was."""
    import numpy as np

    from distill import load_card, score
    from pipelines.files import write_json

    started = time.monotonic()
    metrics = load_card(study.task).metrics
    work = _few_shot if run.kind == "few_shot" else _finetune
    predictions, curve, seconds = work(study, run, folder, cache, splits)
    found = {name: score(logits, splits.test.labels, metrics) for name, logits in predictions.items()}
    with (folder / PREDICTIONS).open("wb") as stream:
        np.savez_compressed(stream, **{name: logits.argmax(1).astype(np.int16) for name, logits in predictions.items()})
    outcome = {
        "arm": run.arm,
        "seed": run.seed,
        "readouts": found,
        "curve": curve,
        "train_seconds": seconds,
        "seconds": time.monotonic() - started,
    }
    write_json(folder / OUTCOME, outcome)
    return outcome


def study_splits(study: Study) -> Any:
    """The rows that a study trains and tests on."""
    from distill import Split, Splits, load_card, load_splits

    splits = load_splits(load_card(study.task))
    return Splits(splits.train.first(study.rows.train), Split([], [], [], []), splits.test.first(study.rows.test))


def _request(study: Study, run: Run, folder: Path, cache: str, settings: dict[str, Any], **options: Any) -> RunRequest:
    """The request of a run: what the study says of all runs, then its arm, then `settings` and `options`."""
    said = {
        "teacher": study.teacher,
        "encoder": study.encoder,
        "layers": study.layers,
        "samples": study.samples,
        "combine": study.combine,
        **study.arms[run.arm].options,
        "task": study.task,
        "student": study.student,
        "out": folder,
        "cache": cache,
        "seed": run.seed,
    }
    return make_request({**said, **settings, **options}, f"study {study.name}, arm {run.arm}")


def _finetune(study: Study, run: Run, folder: Path, cache: str, splits: Any) -> tuple[dict[str, Any], list[Any], float]:
    from distill import pooled_outputs, probe
    from pipelines.run.training import run_training

    result = run_training(_request(study, run, folder, cache, study.settings), splits)
    logits, model, tokens_of, device = _student(study, folder / "student", splits)
    predictions = {"finetune": logits} if study.readouts.finetune else {}
    if study.readouts.probe:
        train, test = (pooled_outputs(model, tokens_of(split), device) for split in (splits.train, splits.test))
        predictions["probe"] = probe(train, splits.train.labels, test, run.seed)
    return predictions, _curve(folder), result.train_seconds


def _few_shot(study: Study, run: Run, folder: Path, cache: str, splits: Any) -> tuple[dict[str, Any], list[Any], float]:
    from dataclasses import replace

    from distill import UNDISTILLED, generator_of
    from pipelines.run.training import run_training

    few = study.readouts.few_shot
    assert few is not None
    student, started = study.student, time.monotonic()
    if study.arms[run.arm].control != UNDISTILLED:
        student = str(_pretrained(study, few, run, folder, cache, splits))
    chosen = generator_of("armada-few-shot/1", study.task, run.seed, 0).permutation(len(splits.train))[: few.labelled]
    layers = study.layers if student == study.student else None
    request = _request(
        study,
        run,
        folder,
        cache,
        few.settings,
        student=student,
        layers=layers,
        control=UNDISTILLED,
        manifold="relational",
    )
    run_training(request, replace(splits, train=splits.train.take(sorted(chosen))))
    logits, *_ = _student(study, folder / "student", splits)
    return {"few_shot": logits}, _curve(folder), time.monotonic() - started


def _pretrained(study: Study, few: FewShot, run: Run, folder: Path, cache: str, splits: Any) -> Path:
    """The pre-trained student's folder; made where it isn't there. The task's labels are not given to the training."""
    import torch

    from distill import (
        StudentSpec,
        export_student,
        length_limit,
        load_card,
        load_student,
        pretrain_student,
        tokenize,
        with_length,
    )
    from pipelines.run.features import join_view
    from teacher_cache import ChosenRows

    home = folder / "pretrained"
    if home.exists():
        return home
    request = _request(study, run, folder, cache, {**study.settings, **few.pretraining}, manifold="relational")
    settings, card = request.settings, load_card(study.task)
    view, _ = join_view(request, card, splits)
    settings = with_length(StudentSpec(study.student), card, view.split, settings)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer = load_student(StudentSpec(study.student, study.layers), card.classes, run.seed)
    tokens = tokenize(tokenizer, view.split.texts, length_limit(model, tokenizer, settings.max_length))
    key = study.task  # not the view's digest: labels are part of that
    assert not isinstance(view.features, ChosenRows)  # a study asks for no windows
    pretrain_student(model, tokens, view.features, settings, key=key, device=device)
    export_student(model.cpu(), tokenizer, home, "A student pre-trained by armada on the relational loss alone.\n")
    return home


def _student(study: Study, folder: Path, splits: Any) -> tuple[Any, Any, Any, Any]:
    """The exported student's test logits, the student, what tokenises a split for it, and its device."""
    import torch

    from distill import Shared, length_limit, load_card, load_student, predict, tokenize

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, tokenizer = load_student(str(folder), load_card(study.task).classes, 0)
    record = json.loads((folder.parent / "run.json").read_text("utf-8"))  # evaluate as the run has done
    limit = length_limit(model, tokenizer, record["settings"]["student"]["max_length"])
    shared = Shared(precision=record["precision"])
    model.to(device)

    def tokens_of(split: Any) -> Any:
        return tokenize(tokenizer, split.texts, limit)

    return predict(model, tokens_of(splits.test), device, shared=shared), model, tokens_of, device


def _curve(folder: Path) -> list[Any]:
    """The task loss of each epoch."""
    return [epoch["task"] for epoch in json.loads((folder / "run.json").read_text("utf-8"))["epochs"]]
