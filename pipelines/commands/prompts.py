"""The prompts that `cache build` and `cache plan` are given: a task card, rows of a card or of a new one, or a file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import typer


def read_command_prompts(
    prompts: str, text: str | None, label: str | None, task: str | None, type: str | None = None
) -> Iterable[str]:
    """Return the prompts of the card `prompts`; of the training rows among `prompts`, by the card `task` or by columns
    with texts and labels; or of columns of texts alone.

    What was guessed is printed. Raise ArmadaError if the options contradict one another or the prompts can't be read.
    """
    from distill import card_names, find_task, new_card, training_prompts
    from teacher_cache import ArmadaError

    path = Path(prompts)
    columns = {"--text-column": text, "--label-column": label, "--type": type}
    named = next((flag for flag, value in columns.items() if value is not None), "")
    is_card = path.suffix in (".yaml", ".yml") or (prompts in card_names() and not os.path.exists(path))
    if task and named:
        raise ArmadaError(f"{named}: the card of --task has the columns; leave out one of the two")
    if task:
        if is_card:
            raise ArmadaError(f"--task: expected rows of the card {task} before it, found the card {prompts}")
        card = find_task(task)
        if not os.path.exists(path):
            raise ArmadaError(f"{prompts}: no such file or folder")
        return training_prompts(card, path)
    if is_card:
        if named:
            raise ArmadaError(f"{named}: the card {prompts} has its own columns; leave it out")
        return training_prompts(find_task(prompts))
    if label is not None:
        made = new_card(prompts, text, label, type)
        for line in made.said:
            typer.echo(f"{made.card.name}: {line}", err=True)
        return training_prompts(made.card)
    if type is not None:
        raise ArmadaError("--type: expected --label-column L beside it; texts alone have no type")
    return _of_texts(prompts, path, text)


def _of_texts(prompts: str, path: Path, text: str | None) -> Iterable[str]:
    """Return the prompts of a file, a folder or a data set, of which only the columns of texts are known."""
    from distill import card_names, column_prompts, label_beside
    from teacher_cache import ArmadaError, did_you_mean, iterate_prompts

    if path.suffix == ".txt" and not os.path.isdir(path):
        return iterate_prompts(path)
    if not os.path.exists(path) and not path.suffix and not prompts.startswith("hf:"):
        near = did_you_mean(prompts, card_names())
        known = "" if near else f"; known tasks: {', '.join(card_names())}"
        raise ArmadaError(f"{prompts}: expected a file or a task, found neither{near}{known}")
    if os.path.isdir(path) and not path.suffix and text is None:
        raise ArmadaError(
            f"{prompts}: expected a file or a task, found a folder; name its card by --task, or its columns by "
            "--text-column and --label-column"
        )
    if label := label_beside(prompts, text or "text"):
        hint = f"with --label-column {shlex.quote(label)}, only those of the rows that `armada train` trains on"
        typer.echo(f"the prompts of all rows; {hint}", err=True)
    return column_prompts(prompts, text or "text")
