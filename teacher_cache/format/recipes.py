"""Recipes: how a teacher's prompt is made of a row's text, by a template and perhaps by a rewriter.

A recipe is a part of its teacher's spec, so that an image key is that of the row's own text: training finds a picture
by the text and the teacher alone. Without a recipe the text is drawn as it is, and no key changes.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teacher_cache.errors import SpecError
from teacher_cache.format.sources import Source
from teacher_cache.keys import normalise, spec_digest
from teacher_cache.text_files import lone_surrogate

FIELD = "prompt_recipe"  # of a teacher's spec
PLACEHOLDER = "{text}"


@dataclass(frozen=True)
class Recipe:
    """The drawn prompt is `before`, then the text or what the rewriter made of it, then `after`.

    `rewriter` describes who rewrites the text first, or is None.
    """

    before: str = ""
    after: str = ""
    rewriter: Source | None = None

    @property
    def template(self) -> str:
        """The template as a user types it, with its braces doubled."""
        return f"{_escaped(self.before)}{PLACEHOLDER}{_escaped(self.after)}"

    @property
    def spec(self) -> dict[str, Any]:
        """What the teacher's spec has of it; empty if the text is drawn as it is."""
        template = {} if self.template == PLACEHOLDER else {"template": self.template}
        return template | ({"rewrite": dict(self.rewriter.spec)} if self.rewriter else {})

    def drawn(self, text: str) -> str:
        """Return the prompt that is drawn for a text, or for what the rewriter made of it."""
        return normalise(f"{self.before}{text}{self.after}")


def make_recipe(template: str, where: str, rewriter: Source | None = None) -> Recipe:
    """Return the recipe of a template. `{{` and `}}` in it stand for braces.

    Raise SpecError, naming `where` the template was given, unless it has the placeholder {text} exactly once.
    """
    template = normalise(template)
    if fault := lone_surrogate(template):
        raise SpecError(f"{where}: expected a text, found {fault}")
    expected = f"{where}: expected {PLACEHOLDER} exactly once, and {{{{ and }}}} for braces in the text"
    pieces = [""]
    try:
        for literal, field, format_spec, conversion in string.Formatter().parse(template):
            pieces[-1] += literal
            if field is None:
                continue
            if field != "text" or format_spec or conversion:
                shown = field + (f"!{conversion}" if conversion else "") + (f":{format_spec}" if format_spec else "")
                raise SpecError(f"{expected}; found {{{shown}}} in {template[:200]!r}")
            pieces.append("")
    except ValueError:
        raise SpecError(f"{expected}; found a single brace in {template[:200]!r}") from None
    if len(pieces) != 2:
        found = "it nowhere" if len(pieces) == 1 else f"it {len(pieces) - 1} times"
        raise SpecError(f"{expected}; found {found} in {template[:200]!r}")
    return Recipe(pieces[0], pieces[1], rewriter)


def recipe_of(teacher: Source) -> Recipe | None:
    """Return the recipe in a teacher's spec; None if it has none, or none that this armada could have written."""
    spec = teacher.spec.get(FIELD)
    if not isinstance(spec, Mapping):
        return None
    template, rewrite = spec.get("template", PLACEHOLDER), spec.get("rewrite")
    if not isinstance(template, str) or not isinstance(rewrite, Mapping | None):
        return None
    try:
        return make_recipe(template, FIELD, Source(rewrite, spec_digest(rewrite)) if rewrite is not None else None)
    except (SpecError, ValueError, TypeError):
        return None


def rewriter_of(teacher: Source) -> Source | None:
    """Return who rewrites the texts that a teacher draws, or None."""
    recipe = recipe_of(teacher)
    return recipe.rewriter if recipe else None


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
