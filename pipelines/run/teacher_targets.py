"""What the student of a run learns from its teacher: features on the device, and the aligner's states."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distill import View, find_control
from pipelines.run.request import RunRequest
from teacher_cache import Cache, user_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distill import TaskModel, TeacherTargets


def _folder_of(request: RunRequest) -> Path:
    """The folder of what is derived from the features of a run."""
    if request.features is not None:
        return user_folder() / "own-features"
    return Cache(str(request.cache)).derived_folder


def find_teacher_targets(
    request: RunRequest, task_model: TaskModel, view: View, accelerator: Accelerator
) -> TeacherTargets:
    """The features and the aligner's states, trained now or read where an earlier run stored them."""
    from distill import TeacherTargets, aligner_states, on_device, untrained_states, wait_for_all

    settings = replace(request.aligner, gamma=request.settings.gamma)
    if task_model.classes == 1:
        settings = replace(settings, regression=request.regression)
    epochs, max_steps = request.settings.epochs, request.settings.max_steps
    if max_steps:
        epochs = min(epochs, -(-max_steps // -(-len(view.split) // request.settings.batch_size)))
    features = on_device(view.features, accelerator.device)
    table = view.features if features is None else features
    relu = settings.regression == "relu"
    limit = request.max_local_bytes
    control = find_control(request.control)
    if control and control.aligner == "untrained":
        states = untrained_states(view.features.shape[1], task_model.classes, epochs, settings, request.settings.seed)
        return TeacherTargets(table, states, settings.width, limit, relu)
    taught = None if task_model.targets is view.split.labels else task_model.targets
    read_or_train = partial(
        aligner_states,
        _folder_of(request) / "aligners",
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
    states = read_or_train() if accelerator.is_main_process else []
    wait_for_all(accelerator)  # the others read what the main process has trained, however long that took
    return TeacherTargets(table, states or read_or_train(), settings.width, limit, relu)
