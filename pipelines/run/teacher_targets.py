"""What the student of a run learns from its teacher: features on the device, and what its aligners say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import CROSSFIT_SETTINGS, UNDISTILLED, Card, View, changes, find_control
from pipelines.run.checks import compiles
from pipelines.run.request import OF_ARMADA, RunRequest
from pipelines.run.task import say
from teacher_cache import ArmadaError, Cache, user_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distill import CrossfitTargets, TaskModel, TeacherTargets

TAUGHT = ("classification", "multi-label", "regression", "choice")  # types of tasks that cross-fitted aligners learn


def find_teacher_targets(
    request: RunRequest, card: Card, task_model: TaskModel, view: View, accelerator: Accelerator
) -> TeacherTargets | CrossfitTargets:
    """The features and what the aligners say, trained now or read where an earlier run stored them."""
    find = _crossfit if request.settings.objective == "crossfit" else _armada
    return find(request, card, task_model, view, accelerator)


def with_objective(request: RunRequest, card: Card) -> RunRequest:
    """The request with the objective of its task, if it names none; what was chosen, and why, is printed.

    A student without a teacher has no objective. Raise ArmadaError if a task is not one that the objective can teach.
    """
    control = find_control(request.control)
    is_taught = request.control != UNDISTILLED and not (control and control.aligner == "none")
    if request.settings.objective is None and is_taught:
        chosen, why = _chosen(request, card)
        say(card, [f"objective {chosen}: {why}"])
        request = replace(request, settings=replace(request.settings, objective=chosen))
    check_objective(request, card)
    return request


def _chosen(request: RunRequest, card: Card) -> tuple[str, str]:
    """The objective of a request that names none, and the reason. What only one objective reads chooses it."""
    said = {*changes(request.settings), *(f"aligner_{name}" for name in changes(request.aligner))}
    own = [name for name in OF_ARMADA if name in said]
    if found := sorted(said & set(CROSSFIT_SETTINGS)):
        return "crossfit", f"no other one has --{found[0].replace('_', '-')}"
    if own:
        return "armada", f"no other one has --{own[0].replace('_', '-')}"
    if card.type not in TAUGHT:
        return "armada", f"crossfit does not teach tasks of type {card.type}"
    if card.type == "regression" and request.regression == "relu":
        return "armada", "no other one has --regression relu"
    if not compiles(request):
        return "armada", "crossfit needs --balance none beside --compile"
    return "crossfit", "the default; --objective armada is the reference's"


def check_objective(request: RunRequest, card: Card) -> None:
    """Raise ArmadaError if a task is not one that the objective can teach."""
    if request.settings.objective != "crossfit":
        return
    if card.type not in TAUGHT:
        raise ArmadaError(
            f"--objective crossfit: expected a task of type {', '.join(TAUGHT)}, found {card.name}, of type "
            f"{card.type}: its aligners predict the labels or the number of a row; use --objective armada"
        )
    if card.type == "regression" and request.regression == "relu":
        raise ArmadaError("--objective crossfit: expected --regression standardised, found relu, the reference's")


def _armada(
    request: RunRequest, card: Card, task_model: TaskModel, view: View, accelerator: Accelerator
) -> TeacherTargets:
    from distill import TeacherTargets, aligner_states, on_device, untrained_states

    settings = replace(request.aligner, gamma=request.settings.gamma)
    if task_model.classes == 1:
        settings = replace(settings, regression=request.regression)
    epochs = _epochs(request, len(view.split))
    features = on_device(view.features, accelerator.device)
    table = view.features if features is None else features
    relu = settings.regression == "relu"
    limit = request.max_local_bytes
    if _is_untrained(request):
        states = untrained_states(view.features.shape[1], task_model.classes, epochs, settings, request.settings.seed)
        return TeacherTargets(table, states, settings.width, limit, relu)
    taught = None if task_model.targets is view.split.labels else task_model.targets
    read_or_train = partial(
        aligner_states,
        aligner_folder(request),
        view,
        task_model.classes,
        epochs,
        settings,
        request.settings.seed,
        accelerator.device,
        targets=taught,
        max_local_bytes=limit,
        moved=features,
    )
    return TeacherTargets(table, first_on_main(read_or_train, accelerator), settings.width, limit, relu)


def _crossfit(
    request: RunRequest, card: Card, task_model: TaskModel, view: View, accelerator: Accelerator
) -> CrossfitTargets:
    from distill import crossfit_targets, on_device

    read_or_train = partial(
        crossfit_targets,
        aligner_folder(request),
        view,
        task_model.targets,
        task_model.classes,
        0 if _is_untrained(request) else _epochs(request, len(view.split)),
        request.settings,
        request.aligner,
        accelerator.device,
        max_local_bytes=request.max_local_bytes,
        moved=on_device(view.features, accelerator.device),
    )
    targets: CrossfitTargets = first_on_main(read_or_train, accelerator)
    return replace(targets, out_of_fold={**targets.out_of_fold, **_accuracy(card, view, targets)})


def _accuracy(card: Card, view: View, targets: CrossfitTargets) -> dict[str, Any]:
    """How well the features alone predict the labels of rows that the aligners have not seen, by the card's metrics;
    `majority` is the accuracy of the most frequent label."""
    from distill import score

    split = view.split
    rows = len(split)
    logits = targets.logits.reshape(rows, -1, targets.classes).mean(1).numpy()
    found: dict[str, Any] = {"rows": rows, "metrics": score(logits, split.labels, card.metrics, split.groups)}
    if card.type == "classification":
        found["majority"] = max(map(split.labels.count, set(split.labels))) / rows
    return found


def first_on_main(read_or_train: Callable[[], Any], accelerator: Accelerator) -> Any:
    """Call it on the main process; then on the others, which read what that has stored, however long it took."""
    from distill import wait_for_all

    found = read_or_train() if accelerator.is_main_process else None
    wait_for_all(accelerator)
    return read_or_train() if found is None else found


def _epochs(request: RunRequest, rows: int) -> int:
    """The epochs that a run takes, at most."""
    epochs, max_steps = request.settings.epochs, request.settings.max_steps
    return min(epochs, -(-max_steps // -(-rows // request.settings.batch_size))) if max_steps else epochs


def _is_untrained(request: RunRequest) -> bool:
    control = find_control(request.control)
    return bool(control and control.aligner == "untrained")


def aligner_folder(request: RunRequest) -> Path:
    """Where this user's aligners and whitenings of a cache, or of own features, are kept."""
    own = request.features is not None
    return (user_folder() / "own-features" if own else Cache(str(request.cache)).derived_folder) / "aligners"
