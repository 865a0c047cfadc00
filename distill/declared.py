"""Declarations: an option's help, bounds, choices and names beside its default, and the check of its value.

Importing this module loads no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Declared:
    """The declaration of one setting. Bounds are inclusive unless named `above` or `below`. `also` is another name of
    the same setting, that of transformers' Trainer or of peft; `metavar` names its value in the help text."""

    help: str
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    also: str = ""
    metavar: str | None = None

    def complaint(self, value: Any) -> str:
        """What was expected of the value; empty if the value is valid."""
        if value is None or isinstance(value, bool | tuple):
            return ""
        if self.choices and value not in self.choices:
            from teacher_cache import did_you_mean

            near = did_you_mean(str(value), self.choices).removeprefix("; ")
            return f"one of {', '.join(self.choices)}{near and f' ({near})'}"
        if not isinstance(value, int | float):
            return ""
        if not math.isfinite(value):
            return "a finite number"
        bounds = [
            f"at least {self.at_least:g}" if self.at_least is not None and value < self.at_least else "",
            f"at most {self.at_most:g}" if self.at_most is not None and value > self.at_most else "",
            f"more than {self.above:g}" if self.above is not None and value <= self.above else "",
            f"less than {self.below:g}" if self.below is not None and value >= self.below else "",
        ]
        return " and ".join(bound for bound in bounds if bound)


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A dataclass field with its declaration; see Declared for `bounds`."""
    return field(default=default, metadata={"declared": Declared(help, **bounds)})


def check_settings(settings: Any, prefix: str = "--") -> None:
    """Raise ArmadaError for the first field whose value is not finite, out of bounds or not one of its choices."""
    from teacher_cache import ArmadaError

    for one in fields(settings):
        declared, value = one.metadata.get("declared"), getattr(settings, one.name)
        if declared and (expected := declared.complaint(value)):
            flag = one.name.replace("_", "-")
            raise ArmadaError(f"{prefix}{flag}: expected {expected}, found {value!r}")
