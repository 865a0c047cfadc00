"""Templates: texts with names of columns in braces, such as "{question} {answer}". `{{` and `}}` stand for braces.

A name is used as it is, with any dot, colon or bracket in it: a template reads no attribute and formats nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def names_in(template: str) -> list[str]:
    """Return the names in braces, in their order and as often as they occur.

    Raise ValueError for a brace without its other half, and for braces with nothing between them.
    """
    found = []
    for part in _PART.finditer(template):
        if part[0] in ("{", "}"):
            raise ValueError(f"expected braces in pairs ({{{{ for a brace itself), found {template!r}")
        if part[0] == "{}":
            raise ValueError(f"expected the name of a column in braces, found {template!r}")
        if part[1] is not None:
            found.append(part[1])
    return found


def fields_of(template: str) -> set[str]:
    """Return the names in braces of a template. Raise ValueError as `names_in`."""
    return set(names_in(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Return the template with the value of each name in the place of its braces."""
    return _PART.sub(lambda part: part[0][0] if part[1] is None else values[part[1]], template)


def can_be_named(column: str) -> bool:
    """Return whether a template can have this column in braces."""
    return bool(column) and not set("{}") & set(column)
