"""The prompts of a task: exactly those that its training looks for, because both come from `load_splits`."""

from __future__ import annotations

from pathlib import Path

from distill.tasks.cards import Card
from distill.tasks.splits import Splits, load_splits
from teacher_cache import check_prompts


def training_prompts(card: Card, files: Path | None = None, splits: Splits | None = None) -> list[str]:
    """Return the prompt of each training row of a card: its own rows, or those of `files`, by its columns, cleaning and
    template, without the rows that are evaluated on. `splits` are these rows if they are loaded already.

    Raise ArmadaError as `load_splits` does, and for a prompt that is empty.
    """
    found = splits or load_splits(card, files)
    return check_prompts(found.train.prompts, str(files or f"task {card.name}"), "prompt")
