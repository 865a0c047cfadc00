"""Examples: the texts, the prompt and the label that a raw row becomes by the templates of its card.

A row becomes one example, or one per choice. A label that the card does not list is an error. A label that the source
hides (null, empty, or -1 where -1 cannot be an answer) makes the row unlabelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from distill.tasks.card_schema import Choices
from distill.tasks.cards import CHOICE, Card
from teacher_cache import ArmadaError, canonical_json, sha256

HIDDEN = (None, "", -1, "-1")  # for a generation task, -1 may be an answer


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

    Raise UnlabelledError if the label is hidden, and ArmadaError, which names the column, if a value does not fit.
    """
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
    """Return the texts and the prompt. If all fields are empty, all of them are empty, without the template words."""
    if not any(fields.values()):
        return tuple("" for _ in card.text), ""
    texts = tuple(template.format(**fields) for template in card.text)
    if card.type != "generation":  # there the answer continues the template
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
        raise ArmadaError(
            f"column {card.label!r}: expected a number of at least 0 (outputs are never negative), found {value!r}"
        )
    return number
