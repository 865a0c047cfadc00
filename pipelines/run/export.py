"""The export of a run: its student as a plain checkpoint or as an adapter, with a model card."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from distill import Card
from pipelines.run.request import RunRequest
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill import TaskModel


def check_export(request: RunRequest, card: Card, task_model: TaskModel) -> None:
    """Raise ArmadaError if the student of a run can't be exported as the request says."""
    from distill import check_adapter

    if request.lora_export == "adapter" and card.type == "similarity":
        raise ArmadaError("--lora-export adapter: expected a task with a head, found similarity; use merged")
    if request.lora_export == "adapter":
        check_adapter(request.student, task_model.model)


def export(request: RunRequest, card: Card, task_model: TaskModel, facts: dict[str, str]) -> None:
    """Write the student into its folder of the run."""
    from distill import adapter_card, export_student, model_card, save_adapter

    write, words = None, model_card(facts, task_model.pipeline, card.type == "multi-label")
    if request.lora_export == "adapter":
        generates = task_model.first is not None
        kind = "CAUSAL_LM" if generates else "SEQ_CLS"
        write = partial(save_adapter, base=task_model.spec.path, revision=request.student_revision, task_type=kind)
        words = adapter_card(facts, request.student, generates)
    export_student(task_model.model, task_model.tokenizer, request.out / "student", words, task_model.files, write)


def facts_of(
    request: RunRequest, card: Card, metrics: Mapping[str, Mapping[str, float]], parameters: Mapping[str, int]
) -> dict[str, str]:
    """The model card's table."""
    settings = request.settings
    return {
        "task": card.name,
        "student": request.student,
        "arm": request.control or ("crossfit" if settings.objective == "crossfit" else settings.manifold),
        "seed": str(settings.seed),
        "epoch picked by": {"last": "no split: the last one", "test": "the reported split, as the paper does"}.get(
            settings.select, settings.select
        ),
        **{f"test {name}": f"{value:.4f}" for name, value in metrics["test"].items()},
        "parameters": f"{parameters['student']:,}",
        "parameters added while training": f"{parameters['added_to_student']:,}",
        "parameters of the aligner": f"{parameters['aligner']:,}",
        "parameters added at inference": "0",
    }
