"""Examples: the texts, the prompt and the label that a raw row becomes by the templates of its card.

A row becomes one example, or one per choice. Labels are read by `labels.py`: one that the card does not list is an
error, one that the source hides makes the row unlabelled.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from distill.cards.card_schema import Choices, Mark, Replacement
from distill.cards.cards import CHOICE, Card
from distill.cards.templates import fill
from distill.tasks.labels import choice_key, is_hidden, is_nan, label_of
from teacher_cache import ArmadaError, canonical_json, sha256

BLANK = "_"


class Example(NamedTuple):
    """One row of text for the student. `group` is the digest of the question that a choice belongs to, else empty."""

    texts: tuple[str, ...]
    prompt: str
    label: Any
    group: str


class UnlabelledError(Exception):
    """The source hides the label of this row."""


def examples_of(card: Card, row: Mapping[str, Any], clean: Callable[[str], str]) -> list[Example]:
    """Return the examples of a row. `clean` is applied to every text.

    Choices with the same text are one example, which is right if one of them is. Raise UnlabelledError if the label is
    hidden, and ArmadaError, which names the column, if a value does not fit.
    """
    answer = [row[name] for name in card.label_columns] if card.label_columns else row[card.label]
    if is_hidden(card, answer):
        raise UnlabelledError
    fields = {name: _text(card, row, name, clean) for name in sorted(card.fields - {CHOICE})}
    marks = {name: [_span(row, mark) for mark in marks] for name, marks in card.marks.items()}
    if card.choices:
        return _choices(card, card.choices, row, fields, marks, clean)
    return [Example(*_filled(card, fields, marks), label_of(card, answer), "")]


def _choices(
    card: Card,
    choices: Choices,
    row: Mapping[str, Any],
    fields: Mapping[str, str],
    marks: Mapping[str, list[tuple[Mark, str, int]]],
    clean: Callable[[str], str],
) -> list[Example]:
    texts = _list(row, choices.column) if choices.column else [row[name] for name in choices.columns or []]
    keys = [str(key) for key in (_list(row, choices.keys) if isinstance(choices.keys, str) else choices.keys)]
    if len(keys) < len(texts):
        raise ArmadaError(f"column {card.label!r}: expected a key for each of {len(texts)} choices, found {len(keys)}")
    right = choice_key(card, row[card.label], keys[: len(texts)])
    found: dict[tuple[str, ...], Example] = {}
    for key, choice in zip(keys, texts, strict=False):
        text = _text(card, {CHOICE: choice}, CHOICE, clean)
        filled = _filled(card, _with_choice(choices, fields, text), marks)
        known = found.get(filled[0])
        found[filled[0]] = Example(*filled, int(key == right or bool(known and known.label)), "")
    group = sha256(canonical_json(sorted(found)))
    return [example._replace(group=group) for example in found.values()]


def _with_choice(choices: Choices, fields: Mapping[str, str], choice: str) -> dict[str, str]:
    if not choices.fills:
        return {**fields, CHOICE: choice}
    text = fields[choices.fills]
    if BLANK not in text:
        raise ArmadaError(f"column {choices.fills!r}: expected a text with the blank {BLANK!r}, found {text!r}")
    return {**fields, choices.fills: text.replace(BLANK, choice)}


def _filled(
    card: Card, fields: Mapping[str, str], marks: Mapping[str, list[tuple[Mark, str, int]]]
) -> tuple[tuple[str, ...], str]:
    """Return the texts and the prompt. If all fields are empty, all of them are empty, without the template words."""
    if not any(fields.values()):
        return tuple("" for _ in card.text), ""
    is_without = card.without is not None and not fields[card.without.column]
    templates, prompt = (
        (card.without.text, card.without.prompt) if is_without and card.without else (card.text, card.prompt)
    )
    read = {name: _marked(value, marks.get(name, [])) for name, value in fields.items()}
    texts = tuple(fill(template, read) for template in templates)
    if card.type != "generation":  # there the answer continues the template
        texts = tuple(text.strip() for text in texts)
    drawn = {name: _replaced(value, card.prompt_replace.get(name, ())) for name, value in fields.items()}
    return texts, fill(prompt, drawn).strip()


def _text(card: Card, row: Mapping[str, Any], column: str, clean: Callable[[str], str]) -> str:
    value = row[column]
    if card.without and column == card.without.column and (value is None or is_nan(value)):
        return ""
    if not isinstance(value, str):
        raise ArmadaError(f"column {column!r}: expected a text, found {value!r}")
    return _replaced(clean(value).strip(), card.replace.get(column, ())).strip()


def _replaced(text: str, replacements: Sequence[Replacement]) -> str:
    for pattern, instead in replacements:
        text = re.sub(pattern, instead, text, flags=re.DOTALL)
    return text


def _span(row: Mapping[str, Any], mark: Mark) -> tuple[Mark, str, int]:
    span, word = row[mark.span], row[mark.word]
    try:
        return mark, str(span).strip(), int(word)
    except (TypeError, ValueError):
        raise ArmadaError(f"column {mark.word!r}: expected the place of a word, found {word!r}") from None


def _marked(text: str, marks: Sequence[tuple[Mark, str, int]]) -> str:
    """Return the text with its spans marked.

    A span is where its place says; if the text has other words there, it is at the occurrence that is nearest to that
    place, and a span that does not occur stays unmarked.
    """
    found = [(place, mark, span) for mark, span, word in marks if (place := _place(text, span, word)) is not None]
    for place, mark, span in sorted(found, key=lambda one: -one[0]):  # from the end, so that places stay right
        end = place + len(span)
        text = f"{text[:place]}{mark.sign}{text[place:end]}{mark.sign}{text[end:]}"
    return text


def _place(text: str, span: str, word: int) -> int | None:
    words = [match.start() for match in re.finditer(r"\S+", text)]
    expected = words[word] if 0 <= word < len(words) else len(text)
    places = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(span)}(?!\w)", text, re.IGNORECASE)]
    return min(places, key=lambda place: abs(place - expected), default=None) if span else None


def _list(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, (list, tuple)) or len(value) < 2:
        raise ArmadaError(f"column {name!r}: expected a list of choices, found {value!r}")
    return value
