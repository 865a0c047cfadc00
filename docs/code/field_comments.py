"""An extension of griffe: what a line says of its field (a comment, or the help of a setting) is its docstring.

Our data are frozen dataclasses whose fields are explained at the end of their lines, which griffe would not print.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from griffe import Attribute, Docstring, Extension

_COMMENT = re.compile(r"\s#\s(?!noqa|type:)(.*)$")


class FieldComments(Extension):  # type: ignore[misc]  # griffe is in the extra [docs] only
    """Give an attribute without a docstring what its own line says."""

    def on_attribute_instance(self, *, node: Any, attr: Attribute, **_: Any) -> None:
        """Read the help of `setting(...)`, or the comment at the end of the last line."""
        if attr.docstring or attr.name.startswith("_"):
            return
        text = _help_of(getattr(node, "value", None)) or _comment_of(attr)
        if text:
            attr.docstring = Docstring(text[0].upper() + text[1:], parent=attr, lineno=attr.lineno)


def _help_of(value: Any) -> str:
    """Return the second argument of `setting(default, help)`; "" for anything else."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "setting" and len(value.args) > 1:
        try:
            return str(ast.literal_eval(value.args[1]))
        except ValueError:
            return ""
    return ""


def _comment_of(attr: Attribute) -> str:
    lines = attr.filepath.read_text("utf-8").splitlines() if attr.lineno else []
    found = _COMMENT.search(lines[(attr.endlineno or attr.lineno) - 1]) if attr.lineno and lines else None
    return found[1].strip() if found else ""
