"""Adapters by name: the built-in ones, those of installed packages (entry points), and `module:factory`.

Nothing is imported until its name is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from teacher_cache.errors import SpecError
from teacher_cache.specs import Spec


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
