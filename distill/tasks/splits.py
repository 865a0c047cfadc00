"""The rows of a task by split.

A row is identified by its text, and a split by hash depends only on the digest of the text. Adding, removing or moving
rows therefore never changes the split of other rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
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
    """Labelled rows in the order of their ids."""

    ids: list[str]  # the digest of the texts of each row
    texts: list[tuple[str, ...]]  # the one or two fields that the student reads
    prompts: list[str]  # the prompts for the teacher
    labels: list[Any]  # class ids; numbers; or tuples of acceptable answers, of which the first is trained on
    groups: list[str] | None = None  # the question of each row, if rows are choices

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> Split:
        """Return the first `count` rows, which have the smallest ids whatever the order of the file."""
        return self.take(range(min(count, len(self))))

    def take(self, rows: Sequence[int]) -> Split:
        """Return these rows, in this order."""
        columns = (self.ids, self.texts, self.prompts, self.labels, self.groups)
        return Split(*([column[row] for row in rows] if column is not None else None for column in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Splits:
    """The splits of a task, and how many rows were left out of them."""

    train: Split
    validation: Split
    test: Split
    held_out: int = 0  # rows of a training file of the user that are left out because they are evaluated on
    also: dict[str, Split] = field(default_factory=dict)  # more splits to report
    dropped: dict[str, int] = field(default_factory=dict)  # rows that are "unlabelled" or "empty"


class _Row(NamedTuple):
    id: str
    texts: tuple[str, ...]
    prompt: str
    label: Any
    group: str


def load_splits(card: Card, files: Path | None = None) -> Splits:
    """Load the rows of a card by split.

    `files` replaces rows of the source. It is a training file (.jsonl, .csv or .parquet with the columns of the card),
    which replaces the training rows and is used without the rows that are evaluated on; or a folder with such files for
    train, test and perhaps validation, which replaces all rows. Raise ArmadaError if the source is not available, a row
    does not fit the card or there is no training row.
    """
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
    """Return the rows of the source by split, and the rows of the other splits to report.

    With `train` False, training rows are only read if validation rows are taken out of them.
    """
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
    """Split rows into training and validation rows. The choices of one question stay together."""
    train = [row for row in rows if _bucket(row) >= percent]
    return train, [row for row in rows if _bucket(row) < percent]


def _split_of(split: HashSplit, row: _Row) -> str:
    bucket = _bucket(row)
    if bucket < split.train:
        return "train"
    return "validation" if bucket < split.train + split.validation else "test"


def _bucket(row: _Row) -> int:
    """Return 0 to 99, from the last digits of the digest because its first digits determine the order of rows."""
    return int(row.group[-8:], 16) % 100


def _read(card: Card, source: RawRows, dropped: Counter[str]) -> list[_Row]:
    """Return every distinct text once, sorted by id.

    If a text has several labels, the most frequent one is used; on a tie the smallest, which is the first in the order
    of the card's classes, the smallest number or the first answer in alphabetical order.
    """
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


def _cleaner(card: Card) -> Callable[[str], str]:
    if card.clean == "none":
        return str
    try:
        import ftfy
    except ModuleNotFoundError:
        raise MissingPackageError("ftfy", "demo", f"the task {card.name}") from None
    clean: Callable[[str], str] = ftfy.fix_text
    return clean
