"""A task's rows in its splits. A row is known by its text, and a split that is cut by hash by the digest of it: rows
that move, come or go change nothing for the others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from distill.tasks.card_schema import HashSplit, NamedSplit
from distill.tasks.cards import Card, load_card
from distill.tasks.examples import UnlabelledError, examples_of
from distill.tasks.raw_rows import ALL, RawRows, file_rows, files_of, source_rows
from teacher_cache import ArmadaError, MissingPackageError, canonical_json, sha256

NAMES = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Labelled rows in the order of their ids. A row's id is the digest of its text fields.

    A label is a class, a number, or for generation the acceptable answers, of which the first is taught. Rows of one
    of `groups` are the choices of one question.
    """

    ids: list[str]
    texts: list[tuple[str, ...]]  # the one or two fields that the student reads
    prompts: list[str]  # what the teacher is asked
    labels: list[Any]
    groups: list[str] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> Split:
        """The first `count` rows, those of the smallest ids: the same ones whatever the file's order."""
        return self.take(range(min(count, len(self))))

    def take(self, rows: Sequence[int]) -> Split:
        """These rows, in this order."""
        columns = (self.ids, self.texts, self.prompts, self.labels, self.groups)
        return Split(*([column[row] for row in rows] if column is not None else None for column in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Splits:
    """A task's splits, and what is left out of them: rows of a user's training file that are evaluated on, and rows
    without a label or a text. `also` are more splits to report."""

    train: Split
    validation: Split
    test: Split
    held_out: int = 0
    also: dict[str, Split] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)


class _Row(NamedTuple):
    id: str
    texts: tuple[str, ...]
    prompt: str
    label: Any
    group: str


def load_splits(card: Card, files: Path | None = None) -> Splits:
    """The card's rows by split. `files` is a training file that replaces the card's training rows (.jsonl, .csv,
    .parquet with the card's columns), less those that are evaluated on; or a folder with train and test, and perhaps
    validation, that replaces all of them. Raises ArmadaError for a row that doesn't fit the card."""
    dropped: Counter[str] = Counter()
    if files and files.is_dir():
        given = {name: _read(card, file_rows(card, path), dropped) for name, path in files_of(files).items()}
        parts = {name: given.get(name, []) for name in NAMES}
        if "validation" not in given and isinstance(card.split, NamedSplit):
            parts["train"], parts["validation"] = _cut(parts["train"], card.split.validation)
        return _as_splits(card, parts, {}, 0, dropped, str(files))
    parts, also = _from_source(card, dropped, train=files is None)
    held_out = 0
    if files:
        evaluated = {row.group for rows in (parts["validation"], parts["test"], *also.values()) for row in rows}
        rows = _read(card, file_rows(card, files), dropped)
        parts["train"] = [row for row in rows if row.group not in evaluated]
        held_out = len(rows) - len(parts["train"])
    return _as_splits(card, parts, also, held_out, dropped, str(files or card.name))


def _from_source(card: Card, dropped: Counter[str], train: bool) -> tuple[dict[str, list[_Row]], dict[str, list[_Row]]]:
    """The source's rows by split, and what else is reported. Without `train` its training rows are needed only for the
    validation rows that are cut from them."""
    parts: dict[str, list[_Row]] = {name: [] for name in NAMES}
    if isinstance(card.split, HashSplit):
        for row in _read(card, source_rows(card, ALL), dropped):
            parts[_split_of(card.split, row)].append(row)
        return parts, {}
    parts["test"] = _read(card, source_rows(card, card.split.test), dropped)
    also = {name: _read(card, source_rows(card, split), dropped) for name, split in card.split.also.items()}
    if card.train_on:
        other, _ = _from_source(load_card(card.train_on), dropped, train)
        tested = {row.group for row in parts["test"]}
        parts["train"], parts["validation"] = (
            [row for row in other[name] if row.group not in tested] for name in ("train", "validation")
        )
    elif card.split.train and (train or card.split.validation):
        rows = _read(card, source_rows(card, card.split.train), dropped)
        parts["train"], parts["validation"] = _cut(rows, card.split.validation)
    return parts, also


def _cut(rows: Sequence[_Row], percent: int) -> tuple[list[_Row], list[_Row]]:
    """Training and validation rows; the choices of one question stay together."""
    is_held = [_place(row) < percent for row in rows]
    train = [row for row, held in zip(rows, is_held, strict=True) if not held]
    return train, [row for row, held in zip(rows, is_held, strict=True) if held]


def _split_of(split: HashSplit, row: _Row) -> str:
    place = _place(row)
    if place < split.train:
        return "train"
    return "validation" if place < split.train + split.validation else "test"


def _place(row: _Row) -> int:
    return int(row.group[-8:], 16) % 100  # the last digits: the first ones order the rows


def _read(card: Card, source: RawRows, dropped: Counter[str]) -> list[_Row]:
    """Every distinct text once, sorted by id. Where one text stands with several labels, the most frequent counts; on a
    tie the first in the card's order of classes, the smallest number, the first answer by the alphabet."""
    clean = _cleaner(card)
    votes: dict[tuple[str, tuple[str, ...]], Counter[Any]] = {}
    prompts: dict[tuple[str, ...], str] = {}
    for number, row in enumerate(source.rows, 1):
        try:
            examples = examples_of(card, row, clean)
        except UnlabelledError:
            dropped["unlabelled"] += 1
            continue
        except ArmadaError as error:
            raise ArmadaError(f"{source.where}: row {number}, {error}") from None
        for example in examples:
            if not any(example.texts):
                dropped["empty"] += 1
                continue
            votes.setdefault((example.group, example.texts), Counter())[example.label] += 1
            prompts[example.texts] = example.prompt
    chosen = []
    for (group, texts), counts in votes.items():
        label = min((-count, label) for label, count in counts.items())[1]
        row_id = sha256(canonical_json(texts))
        chosen.append(_Row(row_id, texts, prompts[texts], label, group or row_id))
    return sorted(chosen, key=lambda row: (row.id, row.group))


def _as_splits(
    card: Card,
    parts: dict[str, list[_Row]],
    also: dict[str, list[_Row]],
    held_out: int,
    dropped: Counter[str],
    where: str,
) -> Splits:
    if not parts["train"]:
        raise ArmadaError(f"{where}: expected at least one training row, found none")
    train, validation, test = (_as_split(card, parts[name]) for name in NAMES)
    more = {name: _as_split(card, rows) for name, rows in also.items()}
    return Splits(train, validation, test, held_out, more, dict(dropped))


def _as_split(card: Card, rows: Sequence[_Row]) -> Split:
    return Split(
        ids=[row.id for row in rows],
        texts=[row.texts for row in rows],
        prompts=[row.prompt for row in rows],
        labels=[row.label for row in rows],
        groups=[row.group for row in rows] if card.type == "choice" else None,
    )


def _cleaner(card: Card) -> Any:
    if card.clean == "none":
        return str
    try:
        import ftfy
    except ModuleNotFoundError:
        raise MissingPackageError("ftfy", "demo", f"the task {card.name}") from None
    return ftfy.fix_text
