"""Specs: the text `kind[:model][?option=value&...]` by which a user names a teacher or an encoder, and its adapter.

Parsing has no side effects. An adapter is built in, the entry point of an installed package, or the user's own as
`FILE.py:factory` or `module:factory`. It takes its options from `Spec.options()`, which rejects unknown ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any
from urllib.parse import parse_qsl

from teacher_cache.errors import ArmadaError, SpecError, did_you_mean
from teacher_cache.registry.own_modules import resolve


@dataclass(frozen=True)
class Spec:
    """A parsed spec. `text` is the text that the user wrote, for messages."""

    kind: str
    model: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    text: str = ""

    def options(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return all options: the given ones with the types of their defaults, and the defaults of the others.

        A default that is a tuple lists the allowed words, the first of which is the default. Raise SpecError if an
        option is not in `defaults`, or if its value does not have the type of its default.
        """
        unknown = sorted(set(self.params) - set(defaults))
        if unknown:
            known = ", ".join(sorted(defaults)) or "none"
            near = did_you_mean(unknown[0], defaults)
            raise SpecError(f"{self.text}: unknown option {unknown[0]!r}; {self.kind} knows: {known}{near}")
        values = {name: value[0] if isinstance(value, tuple) else value for name, value in defaults.items()}
        for name, raw in self.params.items():
            default = defaults[name]
            words = ("false", "true") if isinstance(default, bool) else default if isinstance(default, tuple) else ()
            try:
                values[name] = words[words.index(raw)] if words else type(default)(raw)
            except ValueError:
                kind = f"one of {', '.join(words)}" if words else type(default).__name__
                near = did_you_mean(raw, words)
                raise SpecError(f"{self.text}: option {name} expects {kind}, found {raw!r}{near}") from None
            if isinstance(default, bool):
                values[name] = raw == "true"
            if isinstance(values[name], float) and not math.isfinite(values[name]):
                raise SpecError(f"{self.text}: option {name} expects a finite number, found {raw!r}")
        return values

    def without_model(self) -> Spec:
        """Return this spec. Raise SpecError if it names a model, which this kind does not have."""
        if self.model:
            raise SpecError(f"{self.text}: {self.kind} has no models: expected {self.kind}[?OPTION=VALUE&...]")
        return self


def parse_spec(text: str) -> Spec:
    """Parse a spec such as `openai:gpt-image-2.5-flare?size=1024x1024`. Raise SpecError if it is malformed."""
    head, _, query = text.partition("?")
    kind, _, model = head.partition(":")
    if not kind:
        raise SpecError(f"{text!r} is not a spec; expected KIND[:MODEL][?OPTION=VALUE&...], for example pictogram")
    try:
        pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True) if query else []
    except ValueError:
        raise SpecError(f"{text}: expected ?OPTION=VALUE&OPTION=VALUE after the model, found {query!r}") from None
    names = [name for name, _ in pairs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise SpecError(f"{text}: option {repeated[0]} is given twice")
    return Spec(kind, model, dict(pairs), text)


def load(noun: str, built_in: Mapping[str, str], spec: Spec) -> Any:
    """Return the adapter that a spec names. Its factory is called with the parsed `Spec`.

    `noun` is "teacher" or "encoder", and `built_in` maps kinds to `module:factory`. Installed packages add kinds by
    entry points in the group `armada.teachers` or `armada.encoders`. `spec` is what a user has typed, never what a file
    of a cache says. Raise SpecError if no adapter has this name, or if the user's own fails.
    """
    text = spec.text
    installed = {point.name: point for point in entry_points(group=f"armada.{noun}s")}
    own = ""
    if spec.kind in built_in:
        module, _, name = built_in[spec.kind].partition(":")
        factory = getattr(import_module(module), name)
    elif spec.kind in installed:
        factory = installed[spec.kind].load()
    elif spec.model.isidentifier() and _is_module(spec.kind):
        own = f"{spec.kind}:{spec.model}"
        factory = resolve(noun, spec.kind, spec.model, text, sorted({*built_in, *installed}))
        spec = Spec(own, "", spec.params, text)
    else:
        known = sorted({*built_in, *installed})
        near = did_you_mean(spec.kind, known)
        raise SpecError(
            f"{text}: unknown {noun} {spec.kind!r}; known: {', '.join(known)}, or your own as FILE.py:CLASS or "
            f"package.module:factory{near}"
        )
    try:
        adapter = factory(spec)
        adapter.text = text  # the cache records it, for users to read
    except ArmadaError:
        raise
    except Exception as error:
        if not own:
            raise
        raise SpecError(f"{text}: {own} can't be made: {type(error).__name__}: {error}") from error
    return adapter


def _is_module(kind: str) -> bool:
    """Return whether a kind may name a module of the user: a .py file, or one name or several with dots between."""
    return kind.endswith(".py") or all(part.isidentifier() for part in kind.split("."))
