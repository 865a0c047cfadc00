"""A task's labelled rows in three splits. A row is known by its text, its split by the digest of it: rows that move,
come or go change nothing for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.cards import Card
from teacher_cache import ArmadaError, MissingPackageError, canonical_json, package_file, read_csv, read_rows, sha256

NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Labelled rows in the order of their ids. A row's id is the digest of its text fields."""

    ids: list[str]
    texts: list[tuple[str, ...]]  # the one or two fields that the student reads
    prompts: list[str]  # what the teacher is asked
    labels: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> Split:
        """The first `count` rows, those of the smallest ids: the same ones whatever the file's order."""
        return Split(self.ids[:count], self.texts[:count], self.prompts[:count], self.labels[:count])

    def take(self, rows: Sequence[int]) -> Split:
        """These rows, in this order."""
        columns = (self.ids, self.texts, self.prompts, self.labels)
        return Split(*([column[row] for row in rows] for column in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Splits:
    """A task's splits, and how many rows of a user's training file were held out since they are evaluated on."""

    train: Split
    validation: Split
    test: Split
    held_out: int = 0


def load_splits(card: Card, train_file: Path | None = None) -> Splits:
    """The card's rows, split by hash; `train_file` (.jsonl, .csv, .parquet with the card's columns) replaces the
    training rows, less those that the card evaluates on. Raises ArmadaError for a row that doesn't fit the card."""
    source = package_file(
        card.source.package,
        card.source.path,
        distribution=card.source.distribution,
        extra=card.source.extra,
        purpose=f"the task {card.name}",
    )
    columns = [*card.text, card.label]
    rows = _split(card, read_csv(source, columns, card.source.encoding), source)
    parts: dict[str, list[tuple[str, tuple[str, ...], int]]] = {name: [] for name in NAMES}
    for row in rows:
        parts[_split_of(card, row[0])].append(row)
    held_out = 0
    if train_file:
        evaluated = {row[0] for name in ("validation", "test") for row in parts[name]}
        given = _split(card, read_rows(train_file, columns), train_file)
        parts["train"] = [row for row in given if row[0] not in evaluated]
        held_out = len(given) - len(parts["train"])
    if not parts["train"]:
        raise ArmadaError(f"{train_file or source}: expected at least one training row, found none")
    train, validation, test = (_as_split(card, parts[name]) for name in NAMES)
    return Splits(train, validation, test, held_out)


def _split(card: Card, rows: Iterable[dict[str, Any]], source: Path) -> list[tuple[str, tuple[str, ...], int]]:
    """(id, texts, label) of every distinct text, sorted by id. Where one text stands with several labels, the most
    frequent counts, the first in the card's order on a tie."""
    clean = _cleaner(card)
    votes: dict[tuple[str, ...], Counter[int]] = {}
    for number, row in enumerate(rows, 1):
        texts = []
        for column in card.text:
            if not isinstance(row[column], str):
                raise ArmadaError(f"{source}: row {number}, column {column!r}: expected a text, found {row[column]!r}")
            texts.append(clean(row[column]).strip())
        if any(texts):
            label = _label(card, row[card.label], source, number)
            votes.setdefault(tuple(texts), Counter())[label] += 1
    chosen = ((texts, min(counts, key=lambda label: (-counts[label], label))) for texts, counts in votes.items())
    return sorted((sha256(canonical_json(texts)), texts, label) for texts, label in chosen)


def _label(card: Card, value: Any, source: Path, number: int) -> int:
    if value in card.labels:
        return card.labels.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(card.labels):
        return value
    expected = ", ".join(card.labels)
    raise ArmadaError(f"{source}: row {number}, column {card.label!r}: expected one of {expected}, found {value!r}")


def _split_of(card: Card, row_id: str) -> str:
    place = int(row_id[-8:], 16) % 100  # the last digits: the first ones order the rows
    if place < card.split.train:
        return "train"
    return "validation" if place < card.split.train + card.split.validation else "test"


def _as_split(card: Card, rows: Sequence[tuple[str, tuple[str, ...], int]]) -> Split:
    prompts = [card.prompt.format(**dict(zip(card.text, texts, strict=True))) for _, texts, _ in rows]
    return Split([row[0] for row in rows], [row[1] for row in rows], prompts, [row[2] for row in rows])


def _cleaner(card: Card) -> Any:
    if card.clean == "none":
        return str
    try:
        import ftfy
    except ModuleNotFoundError:
        raise MissingPackageError("ftfy", "demo", f"the task {card.name}") from None
    return ftfy.fix_text
