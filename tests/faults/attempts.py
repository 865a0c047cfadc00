"""Attempts on a hostile cache: what is refused is noted in words; any error but ArmadaError is a fault of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from teacher_cache import ArmadaError


class Attempts:
    """Runs commands and keeps the messages of those that were refused."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def __call__(self, function: Callable[[], Any]) -> Any:
        """Return what a command returns, None if it was refused."""
        try:
            return function()
        except ArmadaError as error:
            self.messages.append(str(error))
            return None


def named(messages: Sequence[str], *words: str) -> bool:
    """Return whether one message has all of some words."""
    return any(all(word in message for word in words) for message in messages)
