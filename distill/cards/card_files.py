"""Cards of the user: found by the path of their file, named in a run by what they say, and written.

A card of the package is found by its name, in the same way.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from distill.cards.cards import Card, card_names, load_card, read_card
from teacher_cache import ArmadaError, canonical_json, sha256

ENDINGS = (".yaml", ".yml")


def find_task(task: str | Path) -> Card:
    """Return the card of a task: one of this package by its name, or one of the user's by the path of its file, which
    ends in .yaml or .yml. Relative paths in the user's card start at its folder.

    Raise ArmadaError if there is none, with the nearest name, or if the file is no valid card, with the key.
    """
    path = Path(task)
    if path.suffix in ENDINGS:
        return read_card(path).at(path.parent)
    if str(task) not in card_names() and os.path.exists(path):
        raise ArmadaError(
            f"{task}: expected a task's name or the file of a card, CARD.yaml; rows are trained on by: armada train "
            f"{task}; a card of them is written by: armada tasks new {shlex.quote(str(task))}"
        )
    return load_card(str(task))


def training_card(card: Card) -> Card:
    """Return the card that provides the training rows of a card of the user."""
    name = str(card.train_on)
    found = find_task((card.home or Path()) / name if Path(name).suffix in ENDINGS else name)
    if found.train_on:
        raise ArmadaError(f"card {card.name}: train_on: expected a card with training rows of its own, found {name}")
    return found


def card_digest(card: Card) -> str:
    """Return the SHA-256 of what a card says of its rows, without its name, its title and the place of its rows."""
    content = card.model_dump(mode="json", exclude={"name", "title", "source"}, exclude_defaults=True)
    return sha256(canonical_json(content))
