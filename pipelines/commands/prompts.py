"""The prompts that `cache build` and `cache plan` are given: a task card, rows of a card, or a file of prompts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def read_command_prompts(prompts: str, column: str | None, task: str | None) -> Iterable[str]:
    """Return the prompts of the card `prompts`; of rows of the card `task` in the file or folder `prompts`; or of a
    column of the file `prompts`. Raise ArmadaError if the options contradict one another or the prompts can't be read.
    """
    from distill import card_names, load_card, training_prompts
    from teacher_cache import ArmadaError, iterate_prompts

    path = Path(prompts)
    if task and column:
        raise ArmadaError("--text-column: the card of --task has the columns; leave out one of the two")
    if task:
        if prompts in card_names() and not path.exists():
            raise ArmadaError(f"--task: expected rows of the card {task} before it, found the card {prompts}")
        card = load_card(task)
        if not path.exists():
            raise ArmadaError(f"{prompts}: no such file or folder")
        return training_prompts(card, path)
    if prompts in card_names():
        if column:
            raise ArmadaError(f"--text-column: the card {prompts} has its own columns; leave it out")
        return training_prompts(load_card(prompts))
    if not path.suffix:
        found = "a folder; name its card by --task" if path.is_dir() else "neither"
        raise ArmadaError(
            f"{prompts}: expected a file or a task, found {found}; known tasks: {', '.join(card_names())}"
        )
    return iterate_prompts(path, column or "text")
