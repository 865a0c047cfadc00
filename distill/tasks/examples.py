"""One raw row as the student's examples: its texts, the teacher's prompt and its label, by the card's templates.

A row gives one example, or one a choice. A label that the card doesn't know is an error; one that the source hides
(null, empty, or -1 where that is no answer) is no label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from distill.tasks.card_schema import Choices
from distill.tasks.cards import CHOICE, Card
from teacher_cache import ArmadaError, canonical_json, sha256

HIDDEN = (None, "", -1, "-1")  # a generation task's answer may well be -1


class Example(NamedTuple):
    """`group` names the question that a choice belongs to; empty where the row stands alone."""

    texts: tuple[str, ...]
    prompt: str
    label: Any
    group: str


class UnlabelledError(Exception):
    """The source hides this row's label."""


def examples_of(card: Card, row: Mapping[str, Any], clean: Callable[[str], str]) -> list[Example]:
    """The examples of a row. Raises UnlabelledError, or ArmadaError that names the column."""
    value = row[card.label]
    if not isinstance(value, list) and value in (HIDDEN[:2] if card.type == "generation" else HIDDEN):
        raise UnlabelledError
    if card.choices:
        return _choices(card, card.choices, row, clean)
    fields = {name: _text(row, name, clean) for name in card.fields}
    return [Example(*_filled(card, fields), _label(card, value), "")]


def _choices(card: Card, choices: Choices, row: Mapping[str, Any], clean: Callable[[str], str]) -> list[Example]:
    texts = _list(row, choices.column) if choices.column else [row[name] for name in choices.columns or []]
    keys = [str(key) for key in (_list(row, choices.keys) if isinstance(choices.keys, str) else choices.keys)]
    right = str(row[card.label])
    if right not in keys[: len(texts)]:
        raise ArmadaError(f"column {card.label!r}: expected one of {', '.join(keys[: len(texts)])}, found {right!r}")
    fields = {name: _text(row, name, clean) for name in card.fields if name != CHOICE}
    examples = []
    for key, choice in zip(keys, texts, strict=False):
        filled = _filled(card, {**fields, CHOICE: _text({CHOICE: choice}, CHOICE, clean)})
        examples.append(Example(*filled, int(key == right), ""))
    group = sha256(canonical_json([example.texts for example in examples]))
    return [example._replace(group=group) for example in examples]


def _filled(card: Card, fields: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """The texts and the prompt; a row whose fields are all empty has empty texts, whatever the templates add."""
    if not any(fields.values()):
        return tuple("" for _ in card.text), ""
    texts = tuple(template.format(**fields) for template in card.text)
    if card.type != "generation":  # there the answer goes on where the template ends
        texts = tuple(text.strip() for text in texts)
    return texts, card.prompt.format(**fields).strip()


def _text(row: Mapping[str, Any], column: str, clean: Callable[[str], str]) -> str:
    value = row[column]
    if not isinstance(value, str):
        raise ArmadaError(f"column {column!r}: expected a text, found {value!r}")
    return clean(value).strip()


def _list(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    value: Any = row
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if not isinstance(value, (list, tuple)) or len(value) < 2:
        raise ArmadaError(f"column {name!r}: expected a list of choices, found {value!r}")
    return value


def _label(card: Card, value: Any) -> Any:
    if card.type == "regression":
        return _number(card, value)
    if card.type == "generation":
        answers = value if isinstance(value, list) else [value]
        if not answers or not all(isinstance(answer, str) for answer in answers):
            raise ArmadaError(f"column {card.label!r}: expected a text or a list of texts, found {value!r}")
        return tuple(answer.strip() for answer in answers)
    labels = card.labels or []
    if value in labels:
        return labels.index(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(labels):
        return value
    raise ArmadaError(f"column {card.label!r}: expected one of {', '.join(labels)}, found {value!r}")


def _number(card: Card, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArmadaError(f"column {card.label!r}: expected a number, found {value!r}") from None
    if number != number or number < 0:
        raise ArmadaError(f"column {card.label!r}: expected a number from 0 (no output is below), found {value!r}")
    return number
