"""The value of an option, as text or as YAML, JSON and Python have it, in the option's type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.run.request import Option


def converted(option: Option, value: Any, where: str) -> Any:
    """The value in the option's type. Raises ArmadaError, naming `where`, if it has none."""
    from pydantic import TypeAdapter, ValidationError

    from teacher_cache import ArmadaError  # here, since `armada --help` is fast

    if isinstance(value, str) and "Path" in str(option.type) and not value.strip():
        raise ArmadaError(f"{where or option.flag}: {option.name}: expected a path, found nothing")
    if "tuple" in str(option.type):
        value = as_words(value)
    try:
        return TypeAdapter(option.type).validate_python(value)
    except ValidationError as error:
        raise ArmadaError(
            f"{where or option.flag}: {option.name}: {error.errors()[0]['msg'].lower()}, found {value!r}"
        ) from None


def as_words(value: Any) -> Any:
    """A list of words, however it is written: separated by commas, as a list of words or numbers, or as words with
    their numbers. Anything else is returned as it is."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, Mapping):
        return tuple(f"{name}={number}" for name, number in value.items())
    if isinstance(value, list):
        numbers = [isinstance(one, int | float) and not isinstance(one, bool) for one in value]
        return tuple(str(one) if is_number else one for one, is_number in zip(value, numbers, strict=True))
    return value
