"""The task of a run: its card, by name, by file, or made from the rows of the request."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from distill import Card, Splits, card_text, find_task, new_card
from pipelines.run.request import RunRequest
from teacher_cache import ArmadaError, atomic_write

CARD = "card.yaml"


def task_of(request: RunRequest) -> tuple[RunRequest, Card]:
    """Return the card of a request; and the request, in which the rows of a named card are its `data_files`, and the
    columns of other rows are named. See `choose_task`."""
    card, files, text, label = _chosen(
        request.rows, request.task, request.data_files, request.text_column, request.label_column
    )
    return replace(request, data_files=files, text_column=text, label_column=label), card


def choose_task(
    rows: str | None, task: str | None, data_files: Path | None, text_column: str | None, label_column: str | None
) -> tuple[Card, Path | None]:
    """Return the card that a user names, or that is made of rows, and the files that replace its rows.

    What was guessed of a card that is made from rows is printed. Raise ArmadaError for options that contradict one
    another, or if there is no such card or the rows make none.
    """
    card, files, _, _ = _chosen(rows, task, data_files, text_column, label_column)
    return card, files


def _chosen(
    rows: str | None, task: str | None, data_files: Path | None, text: str | None, label: str | None
) -> tuple[Card, Path | None, str | None, str | None]:
    columns = {"--text-column": text, "--label-column": label}
    named = [flag for flag, value in columns.items() if value is not None]
    if rows is not None and data_files is not None:
        raise ArmadaError(f"--data-files: expected rows in one place, found {rows} before it")
    if named and (task or rows is None):
        why = f"the card {task} has its columns; leave it out" if task else "expected ROWS before it"
        raise ArmadaError(f"{named[0]}: {why}")
    if task:
        return find_task(task), Path(rows) if rows else data_files, text, label
    if rows is None:
        raise ArmadaError("expected ROWS, a file or folder of rows of your own, or --task NAME")
    made = new_card(rows, text, label)
    say(made.card, made.said)
    return made.card, data_files, made.text, made.label


def counts_of(request: RunRequest, splits: Splits) -> list[str]:
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
