"""One training run, from a task, a student and a cache to a plain checkpoint and `run.json`.

`run.json` is written last. The same run again in the same folder reads it and does nothing, or goes on where it was
stopped; another run there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import (
    UNDISTILLED,
    Card,
    Split,
    Splits,
    View,
    changes,
    controlled_settings,
    data_digest,
    find_control,
    load_card,
    load_splits,
)
from pipelines.run.features import FeatureSource, join_view
from pipelines.run.processes import start_processes
from pipelines.run.record import RunResult, count_parameters, facts_of, finished, write_record
from pipelines.run.request import RunRequest, check_request
from teacher_cache import ArmadaError, Cache, canonical_json, sha256

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distill import BestEpoch, Epoch, TaskModel, TeacherTargets

__all__ = ["RunRequest", "RunResult", "run_training"]


def run_training(request: RunRequest, splits: Splits | None = None) -> RunResult:
    """Train, evaluate and export. `splits` replaces the card's rows (the demo trains on a part of them).

    Raises ArmadaError or CoverageError before the first step where something doesn't fit.
    """
    check_request(request)
    request = replace(request, settings=controlled_settings(request.control, request.settings))
    card = load_card(request.task)
    splits = splits or load_splits(card, request.data_files)
    select = request.settings.select
    if select != "last" and not len(getattr(splits, select)):
        raise ArmadaError(f"--select {select}: expected rows in that split of {card.name}, found none")
    view, source = (None, None) if request.control == UNDISTILLED else join_view(request, card, splits)
    identity = _identity(request, card, splits, view, source)
    return finished(request.out, identity) or _train_and_export(request, card, splits, view, source, identity)


def _identity(
    request: RunRequest, card: Card, splits: Splits, view: View | None, source: FeatureSource | None
) -> dict[str, Any]:
    """Everything that decides a run's result, except for software and hardware. Settings are those that differ from the
    baseline, so that a setting added later changes no run's identity."""
    student = {
        "name": request.student,
        "layers": request.layers,
        "lora_rank": request.lora_rank,
        "lora_targets": list(request.lora_targets) if request.lora_targets else None,
        "load_4bit": request.load_4bit or None,
    }
    return {
        "task": card.name,
        "student": {name: value for name, value in student.items() if value is not None},
        "control": request.control,
        "settings": changes(request.settings),
        "aligner": changes(request.aligner) if view else None,
        "features": {name: getattr(source, name) for name in ("teacher", "encoder", "dimension")} if source else None,
        "pictures": {"samples": request.samples, "combine": request.combine} if request.samples > 1 else None,
        "train_digest": data_digest(view.split if view else splits.train),
        "validation_digest": data_digest(splits.validation),
        "test_digest": data_digest(splits.test),
        "view_digest": view.digest if view else None,
    }


@dataclass(frozen=True)
class _Run:
    """A run that is open: its processes, its student, and the targets that its teacher gives."""

    request: RunRequest
    card: Card
    splits: Splits
    view: View | None
    identity: Mapping[str, Any]
    accelerator: Accelerator
    task_model: TaskModel
    teacher_targets: TeacherTargets | None
    parameters: Mapping[str, int]
    best: BestEpoch

    @property
    def train(self) -> Split:
        """The training rows: those that have a feature, if there is a teacher."""
        return self.view.split if self.view else self.splits.train

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.request.out / "checkpoints"


def _train_and_export(
    request: RunRequest,
    card: Card,
    splits: Splits,
    view: View | None,
    source: FeatureSource | None,
    identity: Mapping[str, Any],
) -> RunResult:
    from accelerate.utils import broadcast_object_list

    run = _open(request, card, splits, view, identity)
    epochs = _train(run)
    run.accelerator.free_memory()
    results: list[RunResult | None] = [None]
    if run.accelerator.is_main_process:
        results = [_finish(run, epochs, source)]
    if run.accelerator.num_processes > 1:
        broadcast_object_list(results)
    run.accelerator.end_training()
    assert results[0] is not None  # the main process has written it
    return results[0]


def _open(request: RunRequest, card: Card, splits: Splits, view: View | None, identity: Mapping[str, Any]) -> _Run:
    """Start the processes, load the student, and train or read the aligner."""
    from distill import BestEpoch, StudentSpec, open_task_model, widen_head

    settings = request.settings
    accelerator = start_processes(request)
    spec = StudentSpec(request.student, request.layers, request.lora_rank, request.lora_targets, request.load_4bit)
    task_model = open_task_model(spec, card, view.split if view else splits.train, settings)
    control = find_control(request.control)
    if view and control and control.wide_head:
        widen_head(task_model.model, view.features.shape[1], settings.dropout, settings.seed)
    has_aligner = view is not None and not (control and control.aligner == "none")
    targets = _teacher_targets(request, task_model, view, accelerator) if view and has_aligner else None
    return _Run(
        request,
        card,
        splits,
        view,
        identity,
        accelerator,
        task_model,
        targets,
        count_parameters(task_model.model, targets),
        BestEpoch(request.out / "checkpoints", sha256(canonical_json(identity))),
    )


def _train(run: _Run) -> list[Epoch]:
    """Train the student, or resume it; keep the best epoch's weights if the request selects one."""
    from distill import CheckpointConfig, train_student

    request, task_model, accelerator = run.request, run.task_model, run.accelerator
    select = request.settings.select
    rows = getattr(run.splits, select) if select != "last" else None

    def offer(epoch: Epoch) -> None:
        if rows and accelerator.is_main_process:
            home = task_model.model.device  # main memory, if the student is sharded for training
            task_model.model.to(accelerator.device)
            metrics = task_model.evaluate(rows, accelerator.device, select)
            task_model.model.to(home)
            run.best.offer(task_model.model, epoch.epoch, metrics[run.card.metrics[0]])

    return train_student(
        task_model.model,
        task_model.tokens,
        task_model.targets,
        request.settings,
        data_digest=data_digest(run.train),
        teacher_targets=run.teacher_targets,
        checkpoint_config=CheckpointConfig(
            run.checkpoints, request.out / "metrics.jsonl", request.save_steps, request.keep, identity=run.identity
        ),
        accelerator=accelerator,
        first=task_model.first,
        on_epoch=offer,
    )


def _finish(run: _Run, epochs: list[Epoch], source: FeatureSource | None) -> RunResult:
    """Evaluate and export the student, write `run.json`, and remove the checkpoints."""
    from distill import Checkpoints, export_student, finish_task_model, model_card

    request, splits, task_model, accelerator = run.request, run.splits, run.task_model, run.accelerator
    if request.settings.select != "last":
        run.best.load(task_model.model)
    finish_task_model(task_model, accelerator.device)
    named = {"validation": splits.validation, "test": splits.test, **splits.also}
    metrics = {
        name: task_model.evaluate(split, accelerator.device, name) if len(split) else {}
        for name, split in named.items()
    }
    record = {
        "identity": run.identity,
        "settings": {"student": asdict(request.settings), "aligner": asdict(request.aligner) if run.view else None},
        "metrics": metrics,
        "selected": {"by": request.settings.select, "epoch": (run.best.kept() or (len(epochs) - 1,))[0]},
        "train_seconds": sum(epoch.seconds for epoch in epochs),
        "epochs": [asdict(epoch) for epoch in epochs],
        "rows": {"train": len(run.train), "validation": len(splits.validation), "test": len(splits.test)},
        "held_out": splits.held_out,
        "dropped": splits.dropped,
        "truncated": task_model.tokens.truncated,
        "coverage": asdict(run.view.coverage) if run.view else None,
        "features": asdict(source) if source else None,
        "parameters": run.parameters,
        "precision": accelerator.mixed_precision,
        "device": str(accelerator.device),
        "ranks": accelerator.num_processes,
    }
    words = model_card(facts_of(request, run.card, metrics, run.parameters), task_model.pipeline)
    export_student(task_model.model, task_model.tokenizer, request.out / "student", words)
    result = write_record(request.out, record)
    run.best.remove()
    Checkpoints(run.checkpoints, {}).remove()
    return result


def _teacher_targets(
    request: RunRequest, task_model: TaskModel, view: View, accelerator: Accelerator
) -> TeacherTargets:
    """The features and the aligner's states, trained now or read where an earlier run stored them."""
    from distill import TeacherTargets, aligner_states, on_device, untrained_states

    settings = replace(request.aligner, gamma=request.settings.gamma)
    epochs, max_steps = request.settings.epochs, request.settings.max_steps
    if max_steps:
        epochs = min(epochs, -(-max_steps // -(-len(view.split) // request.settings.batch_size)))
    features = on_device(view.features, accelerator.device)
    teacher_targets = partial(TeacherTargets, view.features if features is None else features)
    control = find_control(request.control)
    if control and control.aligner == "untrained":
        states = untrained_states(view.features.shape[1], task_model.classes, epochs, settings, request.settings.seed)
        return teacher_targets(states, settings.width, request.max_local_bytes)
    folder = Cache(str(request.cache)).derived_folder / "aligners"
    with accelerator.main_process_first():  # the others read what it has trained
        states = aligner_states(
            folder,
            view,
            task_model.classes,
            epochs,
            settings,
            request.settings.seed,
            accelerator.device,
            targets=task_model.targets if task_model.first else None,
            max_local_bytes=request.max_local_bytes,
            moved=features,
        )
    return teacher_targets(states, settings.width, request.max_local_bytes)
