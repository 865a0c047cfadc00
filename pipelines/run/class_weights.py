"""Class weights as a request gives them (a word, numbers, numbers by class, a file), in the card's order of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill import Card, TrainSettings, read_yaml_value
from pipelines.run.values import as_words
from teacher_cache import ArmadaError

FILES = (".json", ".yaml", ".yml")


def for_task(settings: TrainSettings, card: Card) -> TrainSettings:
    """The settings with class weights as one number per class of the card, or as they are without class weights.

    Raises ArmadaError if the task has no classes to weigh or to smooth, or if the weights do not fit them.
    """
    has_classes = card.type in ("classification", "choice")
    if settings.label_smoothing and not has_classes and card.type != "generation":
        raise ArmadaError(f"--label-smoothing: expected a task of classes, found {card.name}, of type {card.type}")
    words = settings.class_weights
    if words is None:
        return settings
    if not has_classes:
        raise ArmadaError(f"--class-weights: expected a task of classes, found {card.name}, of type {card.type}")
    if len(words) == 1 and Path(words[0]).suffix in FILES:
        words = _read(Path(words[0]))
    if tuple(words) != ("balanced",):
        words = tuple(repr(number) for number in _numbers(words, card))
    return replace(settings, class_weights=words)


def _read(path: Path) -> tuple[str, ...]:
    try:
        found: Any = read_yaml_value(path)  # JSON is YAML
    except ArmadaError as error:
        raise ArmadaError(f"--class-weights {path}: expected a JSON or YAML file of numbers: {error}") from None
    words = as_words(found)
    if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
        raise ArmadaError(f"--class-weights {path}: expected a list of numbers, or a number by class, found {found!r}")
    return words


def _numbers(words: Sequence[str], card: Card) -> list[float]:
    """The weights in the card's order."""
    named = [word.rpartition("=") for word in words]
    names = [name for name, sign, _ in named if sign]
    if names and sorted(names) != sorted(card.classes):
        raise ArmadaError(
            f"--class-weights: expected a number for each class of {card.name} ({', '.join(card.classes)}), found them "
            f"for {', '.join(names)}"
        )
    if len(words) != len(card.classes):
        raise ArmadaError(
            f"--class-weights: expected balanced, or a number for each class of {card.name} "
            f"({', '.join(card.classes)}), found {', '.join(words)}"
        )
    ordered = sorted(named, key=lambda one: card.classes.index(one[0])) if names else named
    return [_number(number) for _, _, number in ordered]


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ArmadaError(f"--class-weights: expected finite numbers of at least 0, found {word!r}")
    return number
