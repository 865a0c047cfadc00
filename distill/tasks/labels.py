"""Labels: the value in a row's answer column, read as the class, the number, the choice or the text that it stands for.

A class is given by its name or its number, in whatever type a table writes it: 1, 1.0, "1", "1.0", and true and false
for two classes of which the second is the positive one. NaN and an empty value are no label, whatever the task. A row
of a multi-label task has any number of labels, also none: a list, a text with a separator, or 0 or 1 per label.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill.cards.cards import Card

HIDDEN_NUMBER = "-1"  # a hidden class or choice; it may be an answer of a generation task, and a number of a regression
BOOLEANS = {"true": "1", "false": "0"}


def is_nan(value: Any) -> bool:
    """Return True for the number NaN."""
    return isinstance(value, float) and math.isnan(value)


def is_hidden(card: Card, value: Any) -> bool:
    """Return True if the source hides the label of a row. `value` is a list for a card with `label_columns`.

    An empty text or list of a multi-label task is a row without any label.
    """
    if card.type == "multi-label":
        if card.label_columns:
            return all(map(_is_no_value, value))
        return _is_no_value(value) and not (isinstance(value, str) and not value.strip())
    if value is None or is_nan(value) or (isinstance(value, str) and not value.strip()):
        return True
    if isinstance(value, (list, tuple)) or card.type == "generation":
        return False
    text = plain(value)
    if text.lower() == "nan" and text not in (card.labels or []):
        return True
    return not card.is_scored and text == HIDDEN_NUMBER and text not in (card.labels or [])


def plain(value: Any) -> str:
    """Return a value as text: whole numbers without a fraction in whatever type they come, booleans as 1 and 0."""
    if isinstance(value, bool):
        return str(int(value))
    text = str(value).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    is_number = isinstance(value, (int, float)) or "." in text
    return str(int(number)) if is_number and math.isfinite(number) and number == int(number) else text


def label_of(card: Card, value: Any) -> Any:
    """Return the class id, the sorted ids of the labels of a multi-label task, the number, or the tuple of acceptable
    answers that a value stands for.

    Raise ArmadaError, which names the column, if it stands for none.
    """
    if card.type == "multi-label":
        return _label_set(card, value)
    if card.is_scored:
        return _number(card, value)
    if card.type == "generation":
        return _answers(card, value)
    return _class(card, value)


def choice_key(card: Card, value: Any, keys: Sequence[str]) -> str:
    """Return the key of the right choice. Raise ArmadaError, which names the column, if the value is none of them."""
    if isinstance(value, bool) or (str(value).lower() in BOOLEANS and str(value) not in keys):
        texts = [BOOLEANS[str(value).lower()]] if list(keys) == ["0", "1"] else []
    else:
        texts = [str(value).strip(), plain(value)]
    for text in texts:
        if text in keys:
            return text
    raise ArmadaError(f"column {card.label!r}: expected one of {', '.join(keys)}, found {str(value)!r}")


def _class(card: Card, value: Any) -> int:
    labels = card.classes
    for text in (str(value).strip(), plain(value)):
        if text in labels and not isinstance(value, bool):
            return labels.index(text)
    if isinstance(value, bool) or str(value).lower() in BOOLEANS:
        if len(labels) == 2 and not labels[1].startswith("not"):
            return int(BOOLEANS[str(value).lower()])
    elif plain(value).isdecimal() and int(plain(value)) < len(labels) and not any(plain(n).isdecimal() for n in labels):
        return int(plain(value))
    raise ArmadaError(f"column {card.label!r}: expected one of {', '.join(labels)}, found {value!r}")


def _number(card: Card, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ArmadaError(f"column {card.label!r}: expected a finite number, found {value!r}")
    return number


def _answers(card: Card, value: Any) -> tuple[str, ...]:
    answers = value if isinstance(value, (list, tuple)) else [value]
    texts = [plain(one) if isinstance(one, (int, float)) and not isinstance(one, bool) else one for one in answers]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise ArmadaError(f"column {card.label!r}: expected a text or a list of texts, found {value!r}")
    return tuple(text.strip() for text in texts)


def _is_no_value(value: Any) -> bool:
    """Return True for what a table writes where it hides one of several labels."""
    if value is None or is_nan(value):
        return True
    return not isinstance(value, (list, tuple)) and plain(value).lower() in ("", "nan", HIDDEN_NUMBER)


def _label_set(card: Card, value: Any) -> tuple[int, ...]:
    if card.label_columns:
        flags = [_flag(name, one) for name, one in zip(card.label_columns, value, strict=True)]
        return tuple(place for place, flag in enumerate(flags) if flag)
    listed = _listed(card, value)
    if _are_flags(card, listed):
        return tuple(place for place, flag in enumerate(listed) if _flag(card.label, flag))
    return tuple(sorted({_class(card, one) for one in listed}))


def _are_flags(card: Card, listed: Sequence[Any]) -> bool:
    """Return True for a list of 0 or 1 per label, as models take them, and not of names or ids."""
    count = len(card.classes)
    if len(listed) != count or not all(isinstance(one, (bool, int, float)) and one in (0, 1) for one in listed):
        return False
    if count == 2 and not any(isinstance(one, (bool, float)) for one in listed):
        raise ArmadaError(
            f"column {card.label!r}: {listed!r} may be the ids of two labels, or 0 or 1 for each of them; write the "
            f"labels by name: {', '.join(card.classes)}"
        )
    return True


def _flag(column: str, value: Any) -> bool:
    text = plain(value).lower()
    text = BOOLEANS.get(text, text)
    if text not in ("0", "1"):
        raise ArmadaError(f"column {column!r}: expected 0 or 1, found {value!r}")
    return text == "1"


def _listed(card: Card, value: Any) -> Sequence[Any]:
    """Return the labels of a row one by one: names, or ids, or 0 or 1 per label."""
    if isinstance(value, str) and card.separator:
        return [part.strip() for part in value.split(card.separator) if part.strip()]
    listed: Any = value
    if isinstance(value, str):
        listed = _parsed(value.strip()) if value.strip() else []
    if not isinstance(listed, (list, tuple)):
        how = "a list of labels, or a text of labels whose `separator` the card names"
        raise ArmadaError(f"column {card.label!r}: expected {how}, found {value!r}")
    return listed


def _parsed(text: str) -> Any:
    """Return the list that a text is, in JSON or as Python prints it, in which pandas writes lists into CSV files."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None
