"""Guesses from plain names and values: which columns have the texts and the label, and what task the labels make.

Every guess is a sentence for the user. What can't be guessed is an error that lists what there is.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from distill.tasks.labels import is_nan, plain
from teacher_cache import ArmadaError, did_you_mean

PAIRS = (
    ("sentence1", "sentence2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("query", "passage"),
    ("query", "document"),
)
TEXTS = (
    "text",
    "sentence",
    "content",
    "review",
    "comment",
    "message",
    "tweet",
    "body",
    "utterance",
    "question",
    "prompt",
)
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "sentiment",
    "emotion",
    "topic",
    "intent",
    "score",
    "rating",
)
MOST_CLASSES_OF_NUMBERS = 20  # whole numbers with more values are scores
SCORED = ("regression", "similarity")  # the types whose labels are numbers
_MOST_CLASSES = 1000
_SHOWN = 12


@dataclass(frozen=True)
class Columns:
    """The one or two columns with texts, the column or columns with the label, and what was guessed of them."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answers:
    """The kind of task that the values of a label column make: its type as in a card, its classes, and why."""

    type: str
    classes: list[str] = field(default_factory=list)
    said: str = ""


def find_columns(where: str, known: Sequence[str], text: str | None, label: str | None) -> Columns:
    """Return the columns of a table, by the names that the user gave (several are separated by commas) or by guess.

    Raise ArmadaError, which lists the columns, if the table lacks one or none can be guessed.
    """
    said = []
    texts = named_columns(where, "--text-column", text, known) if text is not None else None
    labels = named_columns(where, "--label-column", label, known) if label is not None else None
    if labels is None:
        labels = _guess(known, [(name,) for name in LABELS], texts or ())
        if not labels and texts and len(rest := [name for name in known if name not in texts]) == 1:
            labels = tuple(rest)
        if not labels:
            raise ArmadaError(f"{where}: which column has the label? name it by --label-column, of: {_list(known)}")
        said.append(f"label column: {labels[0]!r}, guessed; another one is named by --label-column")
    if texts is None:
        texts = _guess(known, [*PAIRS, *((name,) for name in TEXTS)], labels)
        if not texts and len(rest := [name for name in known if name not in labels]) == 1:
            texts = tuple(rest)
        if not texts:
            raise ArmadaError(f"{where}: which column has the text? name it by --text-column, of: {_list(known)}")
        words = f"text column: {texts[0]!r}" if len(texts) == 1 else f"text columns: {texts[0]!r} and {texts[1]!r}"
        said.append(f"{words}, guessed; others are named by --text-column")
    if len(texts) > 2:
        raise ArmadaError(f"--text-column: expected one column, or two for pairs of texts, found {len(texts)}")
    if both := [name for name in texts if name in labels]:
        raise ArmadaError(f"--label-column: expected a column other than --text-column, found {both[0]!r} in both")
    return Columns(texts, labels, tuple(said))


def named_columns(where: str, flag: str, names: str, known: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a user named, separated by commas. Raise ArmadaError if the table lacks one of them."""
    found = [names] if names in known else [part.strip() for part in names.split(",")]
    for name in found:
        if name not in known:
            raise ArmadaError(f"{where}: {flag}: no column {name!r}; found {_list(known)}{did_you_mean(name, known)}")
    if len(set(found)) < len(found):
        raise ArmadaError(f"{flag}: expected each column once, found {names!r}")
    return tuple(found)


def _guess(known: Sequence[str], groups: Sequence[tuple[str, ...]], taken: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the first group whose names are all there, in any case, and not taken."""
    there = {name.strip().lower(): name for name in reversed(known) if name not in taken}
    return next((tuple(there[name] for name in group) for group in groups if all(n in there for n in group)), ())


def _list(columns: Sequence[str]) -> str:
    text = ", ".join(columns)
    odd = next((sign for sign in (";", "\t", "|") if len(columns) == 1 and sign in text), "")
    return f"{text} (one column: expected commas between columns, found {odd!r})" if odd else text


def answers_of(where: str, column: str, values: Sequence[Any], type: str | None = None) -> Answers:
    """Return what the values of a label column are: classes, numbers or lists of labels. `type` is what the user says.

    A value that hides a label (None, NaN, an empty text) is not looked at. Raise ArmadaError, which names the column,
    if there is no label, only one class, or as many classes as there are rows.
    """
    where = f"{where}: column {column!r}"
    if not (shown := [value for value in values if not _is_hidden(value)]):
        raise ArmadaError(f"{where}: expected labels, found none in {len(values):,} rows")
    lists = [listed(value) for value in shown]
    if type == "multi-label" or (type is None and all(found is not None for found in lists)):
        return _label_lists(where, column, lists)
    if type in SCORED or (type is None and _are_scores(shown)):
        return _scores(where, shown, type or "regression")
    return _classes(where, shown, type)


def _is_hidden(value: Any) -> bool:
    return value is None or is_nan(value) or (isinstance(value, str) and value.strip().lower() in ("", "nan"))


def listed(value: Any) -> list[Any] | None:
    """Return the list that a value is, or that its text is in JSON or as Python prints it; None if it is no list."""
    if isinstance(value, str) and value.strip().startswith("[") and value.strip().endswith("]"):
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(value.strip())
                break
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                continue
    return list(value) if isinstance(value, (list, tuple)) else None


def number_of(value: Any) -> float | None:
    """Return the finite number that a value is, or that its text is; None if it is none."""
    if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _are_scores(values: Sequence[Any]) -> bool:
    numbers = [number_of(value) for value in values]
    if any(number is None for number in numbers):
        return False
    return len(set(numbers)) > MOST_CLASSES_OF_NUMBERS or any(number % 1 for number in numbers if number is not None)


def _scores(where: str, values: Sequence[Any], type: str) -> Answers:
    numbers = [number for value in values if (number := number_of(value)) is not None]
    if len(numbers) < len(values):
        wrong = next(value for value in values if number_of(value) is None)
        raise ArmadaError(f"{where}: expected finite numbers, found {str(wrong)[:80]!r}")
    if min(numbers) == max(numbers):
        raise ArmadaError(f"{where}: expected different numbers, found {min(numbers):g} in all rows")
    return Answers(type, said=f"type: {type}, numbers from {min(numbers):g} to {max(numbers):g}")


def _classes(where: str, values: Sequence[Any], type: str | None) -> Answers:
    if odd := next((value for value in values if isinstance(value, (dict, list))), None):
        raise ArmadaError(f"{where}: expected a class in each row, found {str(odd)[:80]}")
    if all(isinstance(value, bool) or str(value).strip().lower() in ("true", "false") for value in values):
        names = sorted({str(value).strip().lower() for value in values})
    else:
        names = sorted({plain(value) for value in values}, key=_by_number)
    if len(names) < 2:
        raise ArmadaError(f"{where}: expected at least two classes, found only {names[0][:80]!r}")
    is_free = len(names) > MOST_CLASSES_OF_NUMBERS and len(names) > len(values) / 2
    if len(names) > _MOST_CLASSES or max(map(len, names)) > 500 or (is_free and type is None):
        raise ArmadaError(
            f"{where}: expected classes, found {len(names):,} different values in {len(values):,} rows, for example "
            f"{names[0][:80]!r}; is it another column? Free texts as answers are a generation task: write a card like "
            "that of `armada tasks demo/word-problems`"
        )
    said = f"type: classification, {len(names)} classes: {_some(names)}"
    if type is None and all(number_of(name) is not None for name in names):
        said += "; numbers that are scores need --type regression"
    folded = [name.lower() for name in names]
    if twice := next((name for name in names if folded.count(name.lower()) > 1), ""):
        said += f"; {twice!r} is there in upper and lower case"
    return Answers("classification", names, said)


def _label_lists(where: str, column: str, lists: Sequence[list[Any] | None]) -> Answers:
    if any(found is None for found in lists):
        raise ArmadaError(f"{where}: expected a list of labels in each row, or several columns of 0 and 1")
    rows = [found for found in lists if found is not None]
    widths = {len(row) for row in rows}
    if len(widths) == 1 and min(widths) > 1 and all(_is_flag(one) for row in rows for one in row):
        names = [f"{column} {place}" for place in range(min(widths))]
    else:
        names = sorted({plain(one) for row in rows for one in row if not _is_hidden(one)}, key=_by_number)
    if len(names) < 2 or len(names) > _MOST_CLASSES:
        raise ArmadaError(f"{where}: expected 2 to {_MOST_CLASSES:,} different labels, found {len(names):,}")
    return Answers("multi-label", names, f"type: multi-label, {len(names)} labels: {_some(names)}")


def flag_columns(where: str, columns: Sequence[str], values: Callable[[str], Sequence[Any]]) -> Answers:
    """Return the multi-label task of several columns of 0 and 1. Raise ArmadaError for a value that is neither."""
    for column in columns:
        if wrong := next((str(one)[:80] for one in values(column) if not (_is_hidden(one) or _is_flag(one))), None):
            raise ArmadaError(
                f"{where}: column {column!r}: expected 0 or 1 in each of several label columns, found {wrong!r}"
            )
    return Answers("multi-label", said=f"type: multi-label, {len(columns)} labels: {_some(columns)}")


def _is_flag(value: Any) -> bool:
    return plain(value).lower() in ("0", "1", "true", "false")


def _by_number(name: str) -> tuple[float, str]:
    number = number_of(name)
    return (math.inf if number is None else number, name)


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
