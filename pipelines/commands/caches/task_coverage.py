"""Coverage by task: how many prompts of each task a cache has pictures and features of. Read-only."""

from __future__ import annotations

from dataclasses import dataclass

from distill import card_names, load_card, training_prompts
from teacher_cache import ArmadaError, Cache, make_plan, make_requests


@dataclass(frozen=True)
class TaskCoverage:
    """The number of a task's unique training prompts, and how many have a picture, a feature or a recorded failure.

    `unknown` is empty, or the error that prevents counting: the task's rows aren't on this machine.
    """

    task: str
    teacher: str = ""
    encoder: str = ""
    prompts: int = 0
    pictures: int = 0
    features: int = 0
    failed: int = 0
    unknown: str = ""


def task_coverage(cache: Cache) -> list[TaskCoverage]:
    """Return one entry per task card that a commit names, teacher and encoder."""
    found = []
    for task in sorted({commit.prompts for commit in cache.commits()} & set(card_names())):
        try:
            prompts = training_prompts(load_card(task))
        except ArmadaError as error:
            found.append(TaskCoverage(task, unknown=str(error)))
            continue
        for teacher in cache.teachers():
            requests = make_requests(teacher, prompts)
            for encoder in cache.encoders(teacher):
                plan = make_plan(cache, teacher, encoder, requests)
                counts = plan.pictures_at_hand, plan.features_at_hand, sum(plan.failed.values())
                found.append(TaskCoverage(task, teacher.name, encoder.name, requests.unique_prompts, *counts))
    return found
