"""A card made from the rows of a user: the columns that they name, and guesses of the rest, each of which is said.

The same rows and names give the same card, in `armada train ROWS`, `armada cache build ROWS` and `armada tasks new`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from distill.cards.card_schema import DataSource, HubSource
from distill.cards.cards import METRICS_OF, Card
from distill.cards.templates import can_be_named
from distill.cards.yaml_files import faults_in_words
from distill.tasks.guesses import SCORED, Answers, Columns, answers_of, find_columns, flag_columns
from distill.tasks.row_tables import HUB, Tables, hub_name, open_tables
from teacher_cache import ArmadaError, not_one_of

METRICS = {  # of the metrics of a type, those that a new card has
    "classification": ["accuracy", "macro_f1"],
    "multi-label": ["micro_f1", "macro_f1", "mean_average_precision"],
    "regression": ["pearson", "spearman"],
    "similarity": ["spearman", "pearson"],
}
PERCENTAGES = {"train": 80, "validation": 10, "test": 10}


@dataclass(frozen=True)
class NewCard:
    """A card, the columns of its texts and labels as a command takes them, and what was found out about its rows, as
    sentences for the user."""

    card: Card
    text: str
    label: str
    said: tuple[str, ...]


def new_card(rows: str, text: str | None = None, label: str | None = None, type: str | None = None) -> NewCard:
    """Return the card of rows.

    Args:
        rows: a .csv, .jsonl or .parquet file, a folder with train.*, a saved Dataset, or hf:OWNER/NAME[:CONFIG].
            Relative paths start at the working directory.
        text: the column of the texts, or two for pairs, separated by a comma; by default it is guessed.
        label: the column of the labels, or several of 0 and 1, separated by commas; by default it is guessed.
        type: classification, multi-label, regression or similarity; by default it is decided by the values of the
            label. Pairs with a score are a regression, unless `type` says that they train an embedding student.

    Raise ArmadaError if the rows can't be read, or if a column is not there or can't be guessed.
    """
    if type is not None and type not in METRICS:
        raise ArmadaError(f"--type: {not_one_of(METRICS, type)}")
    tables = open_tables(rows)
    columns = find_columns(tables.where, tables.columns(), text, label)
    if odd := [name for name in columns.texts if not can_be_named(name)]:
        raise ArmadaError(f"{tables.where}: column {odd[0]!r}: expected a name without braces; rename the column")
    if type == "similarity" and len(columns.texts) != 2:
        raise ArmadaError("--type similarity: expected the two texts of a pair, --text-column A,B, found one column")
    answers = _answers(tables, columns, type)
    said: tuple[str, ...] = (answers.said,)
    if answers.type == "regression" and type is None and len(columns.texts) == 2:
        said += ("an embedding student learns these pairs with --type similarity",)
    if answers.type not in METRICS_OF:
        raise ArmadaError(f"{tables.where}: {answers.said}; there are no {answers.type} tasks yet")
    split, of_split = _split(tables, columns.labels)
    name = _name_of(rows)
    values: dict[str, Any] = {
        "name": name,
        "title": f"Rows of {name}",
        "type": answers.type,
        "source": _source(rows),
        "text": [f"{{{column}}}" for column in columns.texts],
        **({"label": columns.labels[0]} if len(columns.labels) == 1 else {"label_columns": list(columns.labels)}),
        **({"labels": answers.classes} if answers.classes else {}),
        "prompt": prompt_of(columns.texts),
        "split": split,
        "metrics": METRICS[answers.type],
    }
    try:
        card = Card.model_validate(values).at(Path())
    except ValidationError as error:
        raise ArmadaError(faults_in_words(Path(tables.where), error, Card)) from None
    return NewCard(card, ",".join(columns.texts), ",".join(columns.labels), (*columns.said, *said, of_split))


def card_text(card: Card, folder: Path) -> str:
    """Return a card as YAML for a file in a folder, at which its relative paths start."""
    values, source = card.model_dump(mode="json", exclude_defaults=True), card.source
    if card.home is not None and isinstance(source, (DataSource, HubSource)):
        key, path = ("data", source.data) if isinstance(source, DataSource) else ("hub", source.hub)
        if not Path(path).is_absolute() and (key == "data" or (card.home / path).is_dir()):
            moved = Path(os.path.relpath(card.home / path, folder)).as_posix()
            values["source"][key] = moved if key == "data" or moved.startswith(".") else f"./{moved}"
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None))


def prompt_of(columns: Sequence[str]) -> str:
    """Return the template of the teacher's prompt of rows with these columns of texts."""
    return " ".join(f"{{{column}}}" for column in columns)


def _answers(tables: Tables, columns: Columns, type: str | None) -> Answers:
    if len(columns.labels) > 1:
        if type not in (None, "multi-label"):
            raise ArmadaError(f"--type {type}: expected one label column, found {len(columns.labels)}")
        return flag_columns(tables.where, columns.labels, tables.values)
    (column,) = columns.labels
    values, names = tables.values(column), tables.class_names(column)
    if not names or type in SCORED:
        return answers_of(tables.where, column, values, type)
    found = "multi-label" if any(isinstance(value, list) for value in values) else "classification"
    return Answers(found, names, f"type: {found}, of the {len(names)} classes that the data set names")


def _split(tables: Tables, labels: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Return the split of a card as in its file, and the sentence about it."""
    if tables.is_single:
        shown = ", ".join(f"{percent} % {name}" for name, percent in PERCENTAGES.items())
        return dict(PERCENTAGES), f"split: {shown}, decided by the text of each row"
    has_validation = "validation" in tables.splits
    is_tested = "test" in tables.splits and not (has_validation and tables.hides(labels, "test"))
    test, is_cut = "test" if is_tested else "validation", not has_validation or not is_tested or tables.is_hub
    words = "10 % of train" if is_cut else "validation"
    split = {"train": "train", "validation": 10 if is_cut else 0, "test": test}
    return split, f"split: trained on train, tested on {test}, validated on {words}"


def _source(rows: str) -> dict[str, Any]:
    if not rows.startswith(HUB):
        return {"data": rows}
    name, config = hub_name(rows)
    return {"hub": name, **({"config": config} if config else {}), "licence": "see the hub"}


def _name_of(rows: str) -> str:
    """Return the name of a card of rows: that of the file without its ending, or that of the folder."""
    if rows.startswith(HUB):
        return rows.removeprefix(HUB)
    path = Path(os.path.abspath(rows))
    name = "".join(sign for sign in (path.stem if path.suffix else path.name) if sign.isprintable()).strip()
    return name[:100] or "rows"
