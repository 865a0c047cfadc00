"""The limit of tokens per row: from the training rows where none is given, with a warning where it cuts many."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from distill import Card, Split, TrainSettings
from pipelines.run.request import RunRequest
from pipelines.run.student import spec_of

if TYPE_CHECKING:
    from distill import TaskModel

CUT_SILENTLY = 0.01  # share of the training rows


def with_length_of(request: RunRequest, card: Card, train: Split) -> TrainSettings:
    """The settings with a limit of tokens per row, from the training rows where none is given."""
    if request.settings.max_length is not None:
        return request.settings
    from distill import with_length

    return with_length(spec_of(request), card, train, request.settings)


def warn_if_cut(task_model: TaskModel, settings: TrainSettings) -> None:
    """Say on standard error that more than 1 % of the training rows are cut."""
    rows, cut = len(task_model.tokens), task_model.tokens.truncated
    if cut <= CUT_SILENTLY * rows:
        return
    answers = f", among them {task_model.answers_cut:,} answers" if task_model.answers_cut else ""
    print(
        f"warning: {cut:,} of {rows:,} training rows are cut ({cut / rows:.1%}){answers}: the limit is "
        f"{task_model.limit} tokens; raise --max-length (now {settings.max_length}), or take a student that reads more",
        file=sys.stderr,
    )
