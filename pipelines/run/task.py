"""The task of a run: its card, by name, by file, or made from the rows of the request."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from distill import Card, Splits, card_text, find_task, new_card
from pipelines.run.request import RunRequest
from teacher_cache import ArmadaError, atomic_write

CARD = "card.yaml"


@dataclass(frozen=True)
class TaskChoice:
    """What names a task on the command line, as in a RunRequest."""

    rows: str | None = None
    task: str | None = None
    data_files: Path | None = None
    text_column: str | None = None
    label_column: str | None = None
    type: str | None = None


_Choice = TypeVar("_Choice", RunRequest, TaskChoice)


def task_of(request: _Choice) -> tuple[_Choice, Card]:
    """Return the card of a request; and the request, in which the rows of a named card are its `data_files`, and the
    columns of other rows are named.

    What was guessed of a card that is made from rows is printed. Raise ArmadaError for options that contradict one
    another, or if there is no such card or the rows make none.
    """
    columns = {"--text-column": request.text_column, "--label-column": request.label_column, "--type": request.type}
    named = [flag for flag, value in columns.items() if value is not None]
    if request.rows is not None and request.data_files is not None:
        raise ArmadaError(f"--data-files: expected rows in one place, found {request.rows} before it")
    if named and (request.task or request.rows is None):
        why = f"the card {request.task} says it; leave this out" if request.task else "expected ROWS before it"
        raise ArmadaError(f"{named[0]}: {why}")
    if request.task:
        files = Path(request.rows) if request.rows else request.data_files
        return replace(request, data_files=files), find_task(request.task)
    if request.rows is None:
        raise ArmadaError("expected ROWS, a file or folder of rows of your own, or --task NAME")
    made = new_card(str(request.rows), request.text_column, request.label_column, request.type)
    say(made.card, made.said)
    return replace(request, text_column=made.text, label_column=made.label), made.card


def rows_in_words(request: RunRequest, splits: Splits) -> list[str]:
    """Return how many rows each split has, for rows that are split here for the first time; else nothing."""
    counts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    words = ", ".join(f"{len(split):,} {name}" for name, split in counts.items())
    return [] if request.task else [f"rows: {words}"]


def keep_card(card: Card, out: Path) -> None:
    """Write the card of a run into its folder, unless it is a card of this package."""
    if card.home is not None:
        atomic_write(out / CARD, card_text(card, out).encode("utf-8"), durable=False)


def say(card: Card, lines: tuple[str, ...] | list[str]) -> None:
    """Print lines about the rows of a card. Of several processes, only the first one prints."""
    if os.environ.get("RANK", "0") == "0":
        for line in lines:
            print(f"{card.name}: {line}", file=sys.stderr)
