"""Specs: the short text by which a user names a teacher or an encoder, `kind[:model][?option=value&...]`.

Parsing is pure. An adapter takes its options out of a `Spec` by `options()`, which refuses what it doesn't know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import parse_qsl

from teacher_cache.errors import SpecError


@dataclass(frozen=True)
class Spec:
    """A parsed spec. `text` is what the user wrote, for messages."""

    kind: str
    model: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def options(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The options given, cast to the type of their defaults; the defaults for the rest. A tuple as a default lists
        the words allowed, its first being the default.

        Raises SpecError for an option that `defaults` doesn't name or a value that isn't of its type.
        """
        unknown = sorted(set(self.params) - set(defaults))
        if unknown:
            known = ", ".join(sorted(defaults)) or "none"
            raise SpecError(f"{self.text}: unknown option {unknown[0]!r}; {self.kind} knows: {known}")
        values = {name: value[0] if isinstance(value, tuple) else value for name, value in defaults.items()}
        for name, raw in self.params.items():
            default = defaults[name]
            words = ("false", "true") if isinstance(default, bool) else default if isinstance(default, tuple) else ()
            try:
                values[name] = words[words.index(raw)] if words else type(default)(raw)
            except ValueError:
                kind = f"one of {', '.join(words)}" if words else type(default).__name__
                raise SpecError(f"{self.text}: option {name} expects {kind}, found {raw!r}") from None
            if isinstance(default, bool):
                values[name] = raw == "true"
        return values


def parse_spec(text: str) -> Spec:
    """`openai:gpt-image-1?size=512x512` into kind, model and options. Raises SpecError where it can't be read."""
    head, _, query = text.partition("?")
    kind, _, model = head.partition(":")
    if not kind:
        raise SpecError(f"{text!r} is no spec; expected KIND[:MODEL][?OPTION=VALUE&...], for example pictogram")
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError:
        raise SpecError(f"{text}: expected ?OPTION=VALUE&OPTION=VALUE after the model, found {query!r}") from None
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"{text}: option {twice[0]} is given twice")
    return Spec(kind, model, dict(pairs), text)


# --- merged: teacher_cache.registry.specs
# Adapters by name: the built-in ones, those of installed packages (entry points), and `module:factory`.
def load(noun: str, built_in: Mapping[str, str], spec: Spec) -> Any:
    """The adapter that a spec names, made by its factory, a callable that takes the parsed `Spec`.

    `noun` is "teacher" or "encoder"; `built_in` maps kinds to `module:factory`. Raises SpecError.
    """
    text = spec.text
    installed = {point.name: point for point in entry_points(group=f"armada.{noun}s")}
    if spec.kind in built_in:
        factory = _resolve(noun, built_in[spec.kind], text)
    elif spec.kind in installed:
        factory = installed[spec.kind].load()
    elif "." in spec.kind and spec.model:
        factory = _resolve(noun, f"{spec.kind}:{spec.model}", text)
        spec = Spec(f"{spec.kind}:{spec.model}", "", spec.params, text)
    else:
        known = ", ".join(sorted({*built_in, *installed}))
        raise SpecError(f"{text}: unknown {noun} {spec.kind!r}; known: {known}, or your own as package.module:factory")
    adapter = factory(spec)
    adapter.text = text  # by which the cache opens it again
    return adapter


def _resolve(noun: str, target: str, text: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise SpecError(f"{text}: no {noun} at {target}: {error}") from None
