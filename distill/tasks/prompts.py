"""The prompts of a task: exactly those that its training looks for, because both come from `load_splits`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.cards.cards import Card
from distill.cards.templates import fill
from distill.tasks.guesses import LABELS, named_columns
from distill.tasks.new_card import prompt_of
from distill.tasks.row_tables import open_tables
from distill.tasks.splits import Splits, load_splits
from teacher_cache import check_prompts, checked_prompts


def training_prompts(card: Card, files: Path | None = None, splits: Splits | None = None) -> list[str]:
    """Return the prompt of each training row of a card: its own rows, or those of `files`, by its columns, cleaning and
    template, without the rows that are evaluated on. `splits` are these rows if they are loaded already.

    Raise ArmadaError as `load_splits` does, and for a prompt that is empty.
    """
    found = splits or load_splits(card, files)
    return check_prompts(found.train.prompts, str(files or f"task {card.name}"), "prompt")


def column_prompts(rows: str, text: str) -> Iterator[str]:
    """Yield the prompt of each row of a table, or of the training rows of a folder, by its columns of texts alone.

    They are the prompts that a card made of the same rows and columns has, of all rows and not only of those that it
    trains on. `rows` and `text` are as in `new_card`. Raise ArmadaError as it does, and for a row that makes no prompt.
    """
    tables = open_tables(rows)
    columns = named_columns(tables.where, "--text-column", text, tables.columns())
    template = prompt_of(columns)
    values = zip(*(tables.training_values(column) for column in columns), strict=True)
    return checked_prompts((_prompt(template, dict(zip(columns, row, strict=True))) for row in values), rows, text)


def label_beside(rows: str, text: str) -> str:
    """Return the column that plainly has the labels of rows, beside the columns of their texts, or "" if none does."""
    known = [name for name in open_tables(rows).columns() if name not in text.split(",")]
    return next((name for name in known if name.strip().lower() in LABELS), "")


def _prompt(template: str, row: dict[str, Any]) -> Any:
    """Return the prompt of a row, or the first value that is no text."""
    wrong = [value for value in row.values() if not isinstance(value, str)]
    return wrong[0] if wrong else fill(template, {name: value.strip() for name, value in row.items()}).strip()
