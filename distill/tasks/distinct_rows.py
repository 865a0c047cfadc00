"""Rows read from a source, each text once for training, or all of them for an evaluation.

A question is a row, or all the choices of a row. Its answer is voted on by the rows that ask it; in an evaluation each
row stands for itself. No question ever has more or fewer right choices than its source gives it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from distill.cards.cards import Card
from distill.tasks.examples import Example, UnlabelledError, examples_of
from distill.tasks.labels import HIDDEN_NUMBER, plain
from distill.tasks.raw_rows import RawRows
from teacher_cache import ArmadaError, MissingPackageError, canonical_json, sha256

# ASCII without HTML entities, control characters and carriage returns: ftfy has nothing to mend, and is slow to say so.
NOTHING_TO_FIX = re.compile(r"[ -%'-~\n\t]*").fullmatch


class Row(NamedTuple):
    """One text of a question: `question` is the digest of all of its texts, in whatever order the choices stand."""

    id: str
    texts: tuple[str, ...]
    prompt: str
    label: Any
    question: str
    copy: int  # the number of rows before it that ask the same question


def read_distinct(card: Card, sources: RawRows | Sequence[RawRows], dropped: Counter[str]) -> list[Row]:
    """Return every distinct question once, sorted by id.

    If a question has several answers, the most frequent one is used; on a tie the smallest, which is the first in the
    order of the card's classes or of the choices, the smallest number or the first answer in alphabetical order.
    `dropped` counts rows by "unlabelled", "empty" and "one choice", "merged" and "outvoted".
    """
    asked: dict[str, list[list[Example]]] = {}
    for question, examples in _questions(card, sources, dropped):
        asked.setdefault(question, []).append(examples)
    rows: list[Row] = []
    for question, copies in asked.items():
        if card.choices and len(copies[0]) < 2:
            dropped["one choice"] += len(copies)  # all of its choices have the same text: there is nothing to learn
            continue
        answers = [_answer(card, examples) for examples in copies]
        order = {example.texts: place for place, example in enumerate(copies[0])}
        counts = Counter(answers)
        ranked = sorted(counts, key=lambda answer: (-counts[answer], order[answer] if card.choices else answer))
        dropped["merged"] += len(copies) - 1
        dropped["outvoted"] += len(copies) - counts[ranked[0]]
        for example in copies[0]:
            label = int(example.texts == ranked[0]) if card.choices else ranked[0]
            rows.append(_row(example, label, question, 0))
    return sorted(rows, key=lambda row: (row.id, row.question))


def read_evaluated(card: Card, sources: RawRows | Sequence[RawRows], dropped: Counter[str]) -> list[Row]:
    """Return all labelled rows, sorted by id. No row is merged with another.

    `dropped` counts rows by "unlabelled" and "empty".
    """
    copies: Counter[str] = Counter()
    rows: list[Row] = []
    for question, examples in _questions(card, sources, dropped):
        rows += [_row(example, example.label, question, copies[question]) for example in examples]
        copies[question] += 1
    return sorted(rows, key=lambda row: (row.id, row.question, row.copy))


def _questions(
    card: Card, sources: RawRows | Sequence[RawRows], dropped: Counter[str]
) -> Iterable[tuple[str, list[Example]]]:
    """Return the questions with a label in the order of the sources, each with its digest."""
    clean = _cleaner(card)
    found = []
    for source in [sources] if isinstance(sources, RawRows) else sources:
        for number, row in enumerate(source.rows, 1):
            try:
                examples = examples_of(card, row, clean)
            except UnlabelledError:
                dropped["unlabelled"] += 1
                continue
            except ArmadaError as error:
                raise ArmadaError(f"{source.where}: row {number}, {error}") from None
            if all(any(example.texts) for example in examples):
                found.append((examples[0].group or _id(examples[0]), examples))
            else:
                dropped["empty"] += 1
    if card.is_scored and found and all(plain(rows[0].label) == HIDDEN_NUMBER for _, rows in found):
        dropped["unlabelled"] += len(found)  # a source writes -1 for every label that it hides
        return []
    if card.type == "multi-label" and not any(rows[0].label for _, rows in found):
        dropped["unlabelled"] += len(found)  # a CSV file has no other way to hide all labels than to leave them out
        return []
    return found


def _answer(card: Card, examples: Sequence[Example]) -> Any:
    """Return the label of a question, or the texts of its right choice."""
    if not card.choices:
        return examples[0].label
    return next(example.texts for example in examples if example.label)


def _row(example: Example, label: Any, question: str, copy: int) -> Row:
    return Row(_id(example), example.texts, example.prompt, label, question, copy)


def _id(example: Example) -> str:
    return sha256(canonical_json(example.texts))


def _cleaner(card: Card) -> Callable[[str], str]:
    if card.clean == "none":
        return str
    try:
        import ftfy
    except ModuleNotFoundError:
        raise MissingPackageError("ftfy", "demo", f"the task {card.name}") from None
    return lambda text: text if NOTHING_TO_FIX(text) else ftfy.fix_text(text)
