"""The rows of a task by split.

A row is identified by its text, and a split by hash depends only on the digest of the text. Adding, removing or moving
rows therefore never changes the split of other rows. Training rows with one text are merged by a vote; rows that are
evaluated never are, so that a test has as many rows as its publisher says. What is left out or merged is counted, and
`Splits.notes` says it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distill.cards.card_files import training_card
from distill.cards.card_schema import DataSource, HashSplit, NamedSplit
from distill.cards.cards import Card, load_card
from distill.tasks.distinct_rows import Row, read_distinct, read_evaluated
from distill.tasks.raw_rows import ALL, data_path, file_rows, files_of, is_table, no_file, source_rows
from teacher_cache import ArmadaError

NAMES = ("train", "validation", "test")
Parts = dict[str, list[Row]]


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

    @cached_property
    def questions(self) -> list[list[int]]:
        """The rows of each question, in the order of its first row; if rows are no choices, each row by itself."""
        if self.groups is None:
            return [[row] for row in range(len(self))]
        found: dict[str, list[int]] = {}
        for row, group in enumerate(self.groups):
            found.setdefault(group, []).append(row)
        return list(found.values())

    def first(self, count: int) -> Split:
        """Return the first `count` questions, which have the smallest ids whatever the order of the file. A row that is
        no choice is a question by itself."""
        return self.take_questions(range(min(count, len(self.questions))))

    def take_questions(self, numbers: Sequence[int]) -> Split:
        """Return all rows of these questions, in the order of their ids."""
        return self.take(sorted(row for number in numbers for row in self.questions[number]))

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
    held_out: int = 0  # training rows that are left out because they are evaluated on
    also: dict[str, Split] = field(default_factory=dict)  # more splits to report
    # Rows that are "unlabelled" or "empty"; training questions with only "one choice"; training rows that were "merged"
    # into a row of the same text, and those among them that were "outvoted", because they had another label.
    dropped: dict[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()  # what else the user has to know of these rows

    @property
    def notes(self) -> list[str]:
        """What was left out, merged or not found, as sentences for the user; none if every row is used as it is."""
        words = {
            "unlabelled": "{} rows have no label and are left out",
            "empty": "{} rows have no text and are left out",
            "one choice": "{} training questions have the same text for all choices and are left out",
            "merged": "{} rows have the text of another one and are merged with it, by a vote on the label",
            "outvoted": "{} of these had another label than the vote's",
        }
        notes = [text.format(self.dropped[name]) for name, text in words.items() if self.dropped.get(name)]
        if self.held_out:
            notes.append(f"{self.held_out} training rows are also evaluated on and are left out of training")
        if not len(self.test):
            notes.append("NO TEST RESULT: the test split has no row with a label")
        return [*notes, *self.remarks]


def load_splits(card: Card, files: Path | None = None) -> Splits:
    """Load the rows of a card by split.

    `files` replaces rows of the source. It is a table (a .jsonl, .csv or .parquet file with the columns of the card, a
    folder of that ending with parts, or a Dataset that was saved), which replaces the training rows; or a folder with
    such files for train, test and perhaps validation, or a DatasetDict that was saved, which replaces all rows.
    Training rows that are also evaluated on are left out. Raise ArmadaError if `files` or the source is not
    available, a row does not fit the card or there is no training row.
    """
    dropped: Counter[str] = Counter()
    if files is None and isinstance(card.source, DataSource) and not card.train_on:
        path = data_path(card)
        if not is_table(path):
            return _from_folder(card, path, dropped)
    if files is None:
        return _as_splits(card, *_from_source(card, dropped), dropped, card.name)
    if not os.path.exists(files):
        raise ArmadaError(f"--data-files: no such file or folder: {files}")
    if not is_table(files):
        return _from_folder(card, files, dropped)
    train = read_distinct(card, file_rows(card, files), dropped)  # before the source: a wrong file is the nearer fault
    parts, also, held_out = _from_source(card, dropped, train)
    return _as_splits(card, parts, also, held_out, dropped, str(files))


def _from_source(card: Card, dropped: Counter[str], train: list[Row] | None = None) -> tuple[Parts, Parts, int]:
    """Return the rows of the source by split, the rows of the other splits to report, and how many training rows are
    left out because they are evaluated on. If `train` is given, it replaces the training rows."""
    parts: Parts = {name: [] for name in NAMES}
    also: Parts = {}
    if isinstance(card.split, HashSplit):
        parts = _by_hash(card.split, read_distinct(card, source_rows(card, ALL), dropped))
    else:
        parts["test"] = read_evaluated(card, source_rows(card, card.split.test), dropped)
        also = {
            name: read_evaluated(card, source_rows(card, split), dropped) for name, split in card.split.also.items()
        }
    held_out = 0
    if card.train_on:
        other, _, _ = _from_source(
            load_card(card.train_on) if card.home is None else training_card(card), dropped, train
        )
        parts = {**other, "test": parts["test"]}
    elif isinstance(card.split, NamedSplit) and card.split.train and (train is None or card.split.validation):
        rows = read_distinct(card, source_rows(card, card.split.train), Counter() if train is not None else dropped)
        rows, held_out = _without(rows, [parts["test"], *also.values()])
        parts["train"], parts["validation"] = _cut(rows, card.split.validation)
    if train is not None:
        parts["train"], held_out = _without(train, [parts["validation"], parts["test"], *also.values()])
    elif card.train_on:
        parts["train"], held_out = _without(parts["train"], [parts["test"]])
        parts["validation"], _ = _without(parts["validation"], [parts["test"]])
    return parts, also, held_out


def _from_folder(card: Card, folder: Path, dropped: Counter[str]) -> Splits:
    """Return the splits of a folder. Its test split is test.*; if no row of that has a label, it is the split that the
    card tests on, as in a folder that was saved from the hub, and validation rows are taken out of the training rows.
    """
    named = card.split if isinstance(card.split, NamedSplit) else None
    published = named.test if named else "test"
    paths = files_of(folder, dict.fromkeys([*NAMES, published, *(named.also.values() if named else ())]))
    if "train" not in paths:
        raise no_file(folder, "train")

    def evaluated(name: str, counts: Counter[str]) -> list[Row]:
        sources = [file_rows(card, path, may_lack_label=True) for path in paths.get(name, [])]
        return read_evaluated(card, sources, counts)

    train = read_distinct(card, [file_rows(card, path) for path in paths["train"]], dropped)
    if "test" not in paths and published not in paths:
        if named or "validation" in paths:
            raise no_file(folder, "test")
        assert isinstance(card.split, HashSplit)
        return _as_splits(card, _by_hash(card.split, train), {}, 0, dropped, str(folder))
    counts: Counter[str] = Counter()
    test, validation, remarks = evaluated("test", counts), None, []
    if not test and published != "test" and published in paths:
        if counts["unlabelled"]:
            remarks.append(
                f"no row of {paths['test'][0].name} has a label: the test rows are those of "
                f"{paths[published][0].name}, as the card says"
            )
        counts = Counter()
        test = evaluated(published, counts)
    elif "validation" in paths:
        validation = evaluated("validation", counts)
    also = {name: evaluated(split, counts) for name, split in (named.also if named else {}).items() if split in paths}
    dropped.update(counts)
    train, held_out = _without(train, [test, validation or [], *also.values()])
    if validation is None:  # a split by percentages is one of a single file; a folder's two files are split already
        train, validation = _cut(train, named.validation if named else 0)
    parts = {"train": train, "validation": validation, "test": test}
    return _as_splits(card, parts, also, held_out, dropped, str(folder), tuple(remarks))


def _without(rows: Sequence[Row], evaluated: Sequence[Sequence[Row]]) -> tuple[list[Row], int]:
    """Return the rows whose question is not evaluated on, and the number of the others."""
    questions = {row.question for part in evaluated for row in part}
    kept = [row for row in rows if row.question not in questions]
    return kept, len(rows) - len(kept)


def _cut(rows: Sequence[Row], percent: int) -> tuple[list[Row], list[Row]]:
    """Split rows into training and validation rows. The choices of one question stay together."""
    train = [row for row in rows if _bucket(row) >= percent]
    return train, [row for row in rows if _bucket(row) < percent]


def _by_hash(split: HashSplit, rows: Sequence[Row]) -> Parts:
    parts: Parts = {name: [] for name in NAMES}
    for row in rows:
        bucket = _bucket(row)
        is_train, is_test = bucket < split.train, bucket >= split.train + split.validation
        parts["train" if is_train else "test" if is_test else "validation"].append(row)
    return parts


def _bucket(row: Row) -> int:
    """Return 0 to 99, from the last digits of the digest because its first digits determine the order of rows."""
    return int(row.question[-8:], 16) % 100


def _as_splits(
    card: Card,
    parts: Parts,
    also: Parts,
    held_out: int,
    dropped: Counter[str],
    where: str,
    remarks: tuple[str, ...] = (),
) -> Splits:
    if not parts["train"]:
        why = ""
        if held_out:
            why = f": all {held_out} training rows are also evaluated on; give other rows for train, or for test"
        raise ArmadaError(f"{where}: expected at least one training row, found none{why}")
    train, validation, test = (_as_split(card, parts[name]) for name in NAMES)
    more = {name: _as_split(card, rows) for name, rows in also.items()}
    counts = {name: count for name, count in dropped.items() if count}
    return Splits(train, validation, test, held_out, more, counts, remarks)


def _as_split(card: Card, rows: Sequence[Row]) -> Split:
    return Split(
        ids=[row.id for row in rows],
        texts=[row.texts for row in rows],
        prompts=[row.prompt for row in rows],
        labels=[row.label for row in rows],
        groups=[f"{row.question}:{row.copy}" for row in rows] if card.type == "choice" else None,
    )
