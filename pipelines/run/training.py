"""One training run, from a task, a student and a cache to a plain checkpoint and `run.json`.

`run.json` is written last. The same run again in the same folder reads it and does nothing, or goes on where it was
stopped; another run there is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import (
    UNDISTILLED,
    Card,
    Split,
    Splits,
    View,
    controlled_settings,
    data_digest,
    find_control,
    identity_key,
    load_splits,
)
from pipelines.run.class_weights import for_task
from pipelines.run.export import check_export, export, facts_of
from pipelines.run.features import FeatureSource, join_view
from pipelines.run.identity import identity_of
from pipelines.run.lengths import warn_if_cut, with_length_of
from pipelines.run.places import check_sources
from pipelines.run.processes import start_processes
from pipelines.run.record import RunResult, computation_of, count_parameters, finished, trained_on, write_record
from pipelines.run.request import RunRequest, check_request
from pipelines.run.student import spec_of
from pipelines.run.task import keep_card, rows_in_words, say, task_of
from pipelines.run.teacher_targets import find_teacher_targets, with_objective
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distill import BestEpoch, Epoch, Precision, Shared, Targets, TaskModel

__all__ = ["RunRequest", "RunResult", "run_training"]


def run_training(request: RunRequest, splits: Splits | None = None) -> RunResult:
    """Train, evaluate and export. `splits` replaces the card's rows (the demo trains on a part of them).

    Raises ArmadaError or CoverageError before the first step where something doesn't fit.
    """
    check_request(request)
    request, card = task_of(request)
    request = with_objective(request, card)
    request = replace(request, settings=for_task(controlled_settings(request.control, request.settings), card))
    check_sources(request)
    if splits is None:
        splits = load_splits(card, request.data_files)
        say(card, [*rows_in_words(request, splits), *splits.notes])
    select = request.settings.select
    if select != "last" and not len(getattr(splits, select)):
        raise ArmadaError(f"--select {select}: expected rows in that split of {card.name}, found none")
    view, source = (None, None) if request.control == UNDISTILLED else join_view(request, card, splits)
    request = replace(request, settings=with_length_of(request, card, view.split if view else splits.train))
    identity = identity_of(request, card, splits, view, source)
    return finished(request.out, identity) or _train_and_export(request, card, splits, view, source, identity)


@dataclass(frozen=True)
class _Run:
    """A run that is open: its processes, its student, and the targets that its teacher gives."""

    request: RunRequest
    card: Card
    splits: Splits
    view: View | None
    identity: Mapping[str, Any]
    accelerator: Accelerator
    precision: Precision
    task_model: TaskModel
    teacher_targets: Targets | None
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

    from distill import wait_for_all

    run = _open(request, card, splits, view, identity)
    epochs = _train(run)
    run.accelerator.free_memory()
    metrics = _evaluate(run)
    results: list[RunResult | None] = [None]
    if run.accelerator.is_main_process:
        results = [_finish(run, epochs, source, metrics)]
    if run.accelerator.num_processes > 1:
        wait_for_all(run.accelerator)
        broadcast_object_list(results)
    run.accelerator.end_training()
    assert results[0] is not None  # the main process has written it
    return results[0]


def _open(request: RunRequest, card: Card, splits: Splits, view: View | None, identity: Mapping[str, Any]) -> _Run:
    """Start the processes, load the student, and train or read the aligner."""
    from distill import BestEpoch, checkpoint_gradients, is_sharded, open_task_model, widen_head

    settings = request.settings
    accelerator, precision = start_processes(request)
    spec = spec_of(request)
    task_model = open_task_model(spec, card, view.split if view else splits.train, settings, request.regression)
    check_export(request, card, task_model)
    if request.gradient_checkpointing:
        checkpoint_gradients(request.student, task_model.model)
    control = find_control(request.control)
    if view and control and control.wide_head:
        widen_head(task_model.model, view.features.shape[1], settings.dropout, settings.seed)
    if not is_sharded(accelerator):
        task_model.model.to(accelerator.device)  # before the features take a share of what is free there
    if accelerator.is_main_process:
        warn_if_cut(task_model, settings)
    has_aligner = view is not None and not (control and control.aligner == "none")
    targets = find_teacher_targets(request, card, task_model, view, accelerator) if view and has_aligner else None
    return _Run(
        request,
        card,
        splits,
        view,
        identity,
        accelerator,
        precision,
        task_model,
        targets,
        count_parameters(task_model.model, targets),
        BestEpoch(request.out / "checkpoints", identity_key(identity)),
    )


def _train(run: _Run) -> list[Epoch]:
    """Train the student, or resume it; keep the best epoch's weights if the request selects one."""
    from distill import CheckpointConfig, train_student, wait_for_all

    request, task_model, accelerator = run.request, run.task_model, run.accelerator
    select = request.settings.select
    rows = getattr(run.splits, select) if select != "last" else None
    patience = request.settings.early_stopping_patience

    def offer(epoch: Epoch) -> bool:
        """Keep the epoch if it is the best so far; return whether to stop, which all processes decide alike."""
        if not rows:
            return False
        home = task_model.model.device  # main memory, if the student is sharded for training
        task_model.model.to(accelerator.device)
        metrics = task_model.evaluate(rows, accelerator.device, select, _shared(run))
        task_model.model.to(home)
        if accelerator.is_main_process:
            run.best.offer(task_model.model, epoch.epoch, metrics[run.card.metrics[0]])
        if not patience:
            return False
        wait_for_all(accelerator)  # the main process writes the best epoch
        return epoch.epoch - (run.best.kept() or (epoch.epoch,))[0] >= patience

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


def _shared(run: _Run) -> Shared:
    """How all processes share an evaluation."""
    from distill import shared_evaluation

    return shared_evaluation(run.accelerator, run.request.eval_batch_size)


def _evaluate(run: _Run) -> dict[str, dict[str, float]]:
    """Turn the student into the one to export, and return its metrics by split. All processes share the work."""
    from distill import check_finite, finish_task_model, wait_for_all

    splits, task_model, accelerator = run.splits, run.task_model, run.accelerator
    if run.request.settings.select != "last":
        wait_for_all(accelerator)  # the main process writes the best epoch
        run.best.load(task_model.model)
    finish_task_model(task_model, accelerator.device, merge=run.request.lora_export == "merged")
    check_finite(task_model.model, "the trained student")
    named = {"validation": splits.validation, "test": splits.test, **splits.also}
    shared = _shared(run)
    return {
        name: task_model.evaluate(split, accelerator.device, name, shared) if len(split) else {}
        for name, split in named.items()
    }


def _finish(
    run: _Run, epochs: list[Epoch], source: FeatureSource | None, metrics: dict[str, dict[str, float]]
) -> RunResult:
    """Export the student, write `run.json`, and remove the checkpoints."""
    from distill import Checkpoints

    request, best = run.request, run.best.kept()
    record = {
        "identity": run.identity,
        "settings": {"student": asdict(request.settings), "aligner": asdict(request.aligner) if run.view else None},
        "metrics": metrics,
        "selected": {"by": request.settings.select, "epoch": best[0] if best else len(epochs) - 1},
        "train_seconds": sum(epoch.seconds for epoch in epochs),
        "epochs": [asdict(epoch) for epoch in epochs],
        **trained_on(run.train, run.splits, run.task_model),
        "coverage": asdict(run.view.coverage) if run.view else None,
        "features": asdict(source) if source else None,
        **({"out_of_fold": found} if (found := getattr(run.teacher_targets, "out_of_fold", None)) else {}),
        "parameters": run.parameters,
        **computation_of(request, run.precision, run.accelerator),
    }
    export(request, run.card, run.task_model, facts_of(request, run.card, metrics, run.parameters))
    keep_card(run.card, request.out)
    result = write_record(request.out, record)
    run.best.remove()
    Checkpoints(run.checkpoints, {}).remove()
    return result
