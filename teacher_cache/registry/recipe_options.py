"""The options `prompt.template` and `prompt.rewrite` of a teacher's spec, which any teacher has.

The options of the command line are written into the spec, so that the spec alone names the teacher everywhere: in the
cache's records, in messages, and in every other command.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote, urlencode

from teacher_cache.errors import SpecError, did_you_mean
from teacher_cache.format.recipes import PLACEHOLDER, Recipe, make_recipe
from teacher_cache.registry.specs import Spec, parse_spec

PREFIX = "prompt."
TEMPLATE, REWRITE = f"{PREFIX}template", f"{PREFIX}rewrite"


def with_recipe(
    teacher: str,
    *,
    template: str | None = None,
    prefix: str | None = None,
    suffix: str | None = None,
    rewrite: str | None = None,
) -> str:
    """Return a teacher's spec with the options of a command: a template, texts before and after it, a rewriter's spec.

    Raise SpecError if the spec is malformed or has such an option already, or the template has not one {text}.
    """
    flags = {
        "--prompt-template": (TEMPLATE, template),
        "--prompt-prefix": (TEMPLATE, prefix),
        "--prompt-suffix": (TEMPLATE, suffix),
        "--rewrite": (REWRITE, rewrite),
    }
    given = {flag: name for flag, (name, value) in flags.items() if value is not None}
    if not given:
        return teacher
    spec = parse_spec(teacher)
    if twice := [flag for flag, name in given.items() if name in spec.params]:
        raise SpecError(f"{twice[0]}: the teacher's spec has {given[twice[0]]}= already; leave out one of the two")
    if rewrite is not None and not rewrite.strip():
        raise SpecError("--rewrite: expected the spec of a chat model, for example openai:gpt-4.1-mini, found nothing")
    made = make_recipe(PLACEHOLDER if template is None else template, "--prompt-template")
    whole = Recipe((prefix or "") + made.before, made.after + (suffix or "")).template
    make_recipe(whole, "--prompt-prefix and --prompt-suffix")
    options = {TEMPLATE: whole} if whole != PLACEHOLDER else {}
    if rewrite is not None:
        options[REWRITE] = rewrite
    query = urlencode(options, quote_via=quote, safe=" {},:/", errors="surrogateescape")
    return f"{teacher}{'&' if '?' in teacher else '?'}{query}" if options else teacher


def take_recipe(spec: Spec) -> tuple[Spec, str, str]:
    """Return a teacher's spec without the options of a recipe, the template, and the rewriter's spec or "".

    Raise SpecError for an unknown option that begins with `prompt.`, and for a rewriter without a spec.
    """
    options = {name: value for name, value in spec.params.items() if name.startswith(PREFIX)}
    if unknown := sorted(set(options) - {TEMPLATE, REWRITE}):
        near = did_you_mean(unknown[0], [TEMPLATE, REWRITE])
        raise SpecError(f"{spec.text}: unknown option {unknown[0]!r}; every teacher knows {TEMPLATE}, {REWRITE}{near}")
    if options.get(REWRITE, "-") == "":
        raise SpecError(f"{spec.text}: option {REWRITE} expects the spec of a chat model, for example openai:MODEL")
    rest = {name: value for name, value in spec.params.items() if name not in options}
    return replace(spec, params=rest), options.get(TEMPLATE, PLACEHOLDER), options.get(REWRITE, "")
