"""One training run, from a task, a student and a cache to a plain checkpoint and `run.json`.

`run.json` is written last. The same run again in the same folder reads it and does nothing, or goes on where it was
stopped; another run there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from distill import (
    UNDISTILLED,
    Card,
    Splits,
    View,
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

__all__ = ["RunRequest", "RunResult", "run_training"]


def run_training(request: RunRequest, splits: Splits | None = None) -> RunResult:
    """Train, evaluate and export. `splits` replaces the card's rows (the demo trains on a part of them).

    Raises ArmadaError or CoverageError before the first step where something doesn't fit.
    """
    check_request(request)
    request = replace(request, settings=controlled_settings(request.control, request.settings))
    card = load_card(request.task)
    splits = splits or load_splits(card, request.data_file)
    select = request.settings.select
    if select != "last" and not len(getattr(splits, select)):
        raise ArmadaError(f"--select {select}: expected rows in that split of {card.name}, found none")
    view, source = (None, None) if request.control == UNDISTILLED else join_view(request, card, splits)
    identity = _identity(request, card, splits, view, source)
    return finished(request.out, identity) or _run(request, card, splits, view, source, identity)


def _identity(
    request: RunRequest, card: Card, splits: Splits, view: View | None, source: FeatureSource | None
) -> dict[str, Any]:
    """All that decides a run's result, but for software and hardware."""
    return {
        "task": card.name,
        "student": {
            "name": request.student,
            "layers": request.layers,
            "lora_rank": request.lora_rank,
            "lora_targets": list(request.lora_targets) if request.lora_targets else None,
            **({"load_4bit": True} if request.load_4bit else {}),  # absent in the records of runs before there was it
        },
        "control": request.control,
        "settings": asdict(request.settings),
        "aligner": asdict(request.aligner) if view else None,
        "features": {name: getattr(source, name) for name in ("teacher", "encoder", "dimension")} if source else None,
        "pictures": {"samples": request.samples, "combine": request.combine} if request.samples > 1 else None,
        "train_digest": data_digest(view.split if view else splits.train),
        "validation_digest": data_digest(splits.validation),
        "test_digest": data_digest(splits.test),
        "view_digest": view.digest if view else None,
    }


def _run(
    request: RunRequest,
    card: Card,
    splits: Splits,
    view: View | None,
    source: FeatureSource | None,
    identity: Mapping[str, Any],
) -> RunResult:
    from accelerate.utils import broadcast_object_list

    from distill import (
        BestEpoch,
        CheckpointConfig,
        Checkpoints,
        StudentSpec,
        export_student,
        finish_task_model,
        model_card,
        open_task_model,
        train_student,
        widen_head,
    )

    settings = request.settings
    accelerator = start_processes(request)
    train = view.split if view else splits.train
    spec = StudentSpec(request.student, request.layers, request.lora_rank, request.lora_targets, request.load_4bit)
    task_model = open_task_model(spec, card, train, settings)
    control = find_control(request.control)
    if view and control and control.wide_head:
        widen_head(task_model.model, view.features.shape[1], settings.dropout, settings.seed)
    is_taught = view is not None and not (control and control.aligner == "none")
    teacher_targets = _teaching(request, task_model, view, accelerator) if view and is_taught else None
    parameters = count_parameters(task_model.model, teacher_targets)

    checkpoints = request.out / "checkpoints"
    best = BestEpoch(checkpoints, sha256(canonical_json(identity)))
    selecting = getattr(splits, settings.select) if settings.select != "last" else None

    def offer(epoch: Any) -> None:
        if selecting and accelerator.is_main_process:
            home = task_model.model.device  # the main memory, where the student is trained in parts
            task_model.model.to(accelerator.device)
            found = task_model.evaluate(selecting, accelerator.device, settings.select)
            task_model.model.to(home)
            best.offer(task_model.model, epoch.epoch, found[card.metrics[0]])

    epochs = train_student(
        task_model.model,
        task_model.tokens,
        task_model.targets,
        settings,
        data_digest=data_digest(train),
        teacher_targets=teacher_targets,
        checkpoint_config=CheckpointConfig(
            checkpoints, request.out / "metrics.jsonl", request.save_steps, request.keep, identity=identity
        ),
        accelerator=accelerator,
        first=task_model.first,
        on_epoch=offer,
    )
    accelerator.free_memory()
    results: list[RunResult | None] = [None]
    if accelerator.is_main_process:
        if selecting:
            best.load(task_model.model)
        finish_task_model(task_model, accelerator.device)
        named = {"validation": splits.validation, "test": splits.test, **splits.also}
        metrics = {
            name: task_model.evaluate(split, accelerator.device, name) if len(split) else {}
            for name, split in named.items()
        }
        record = {
            "identity": identity,
            "metrics": metrics,
            "selected": {"by": settings.select, "epoch": (best.kept() or (len(epochs) - 1,))[0]},
            "train_seconds": sum(epoch.seconds for epoch in epochs),
            "epochs": [asdict(epoch) for epoch in epochs],
            "rows": {"train": len(train), "validation": len(splits.validation), "test": len(splits.test)},
            "held_out": splits.held_out,
            "dropped": splits.dropped,
            "truncated": task_model.tokens.truncated,
            "coverage": asdict(view.coverage) if view else None,
            "features": asdict(source) if source else None,
            "parameters": parameters,
            "precision": accelerator.mixed_precision,
            "device": str(accelerator.device),
            "ranks": accelerator.num_processes,
        }
        words = model_card(facts_of(request, card, metrics, parameters), task_model.pipeline)
        export_student(task_model.model, task_model.tokenizer, request.out / "student", words)
        results = [write_record(request.out, record)]
        best.remove()
        Checkpoints(checkpoints, {}).remove()
    if accelerator.num_processes > 1:
        broadcast_object_list(results)
    accelerator.end_training()
    assert results[0] is not None  # the main process has written it
    return results[0]


def _teaching(request: RunRequest, task_model: Any, view: View, accelerator: Any) -> Any:
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
    folder = Cache(str(request.cache)).machine_folder / "aligners"
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
