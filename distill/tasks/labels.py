"""Labels: the value in a row's answer column, read as the class, the number, the choice or the text that it stands for.

A class is given by its name or its number, in whatever type a table writes it: 1, 1.0, "1", "1.0", and true and false
for two classes of which the second is the positive one. NaN and an empty value are no label, whatever the task.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from distill.tasks.cards import Card

HIDDEN_NUMBER = "-1"  # a hidden class or choice; it may be an answer of a generation task, and a number of a regression
BOOLEANS = {"true": "1", "false": "0"}


def is_nan(value: Any) -> bool:
    """Return True for the number NaN."""
    return isinstance(value, float) and math.isnan(value)


def is_hidden(card: Card, value: Any) -> bool:
    """Return True if the source hides the label of a row."""
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
    """Return the class id, the number, or the tuple of acceptable answers that a value stands for.

    Raise ArmadaError, which names the column, if it stands for none.
    """
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
    labels = card.labels or []
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
