"""`armada tasks`: list the task cards, show one, or write its prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from pipelines.commands.options import AsJson
from pipelines.files import json_text

DataFiles = Annotated[
    Optional[Path],
    typer.Option("--data-files", help="Training rows in the card's columns; or a folder with train.* and test.*."),
]


def tasks(
    name: Annotated[Optional[str], typer.Argument(help="Show this card.")] = None,
    prompts: Annotated[
        Optional[Path], typer.Option("--prompts", help="Write its training rows' prompts here, for armada cache build.")
    ] = None,
    data_files: DataFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the task cards, show one, or write the prompts of its training rows."""
    from distill import card_names, load_card
    from teacher_cache import ArmadaError

    if prompts and not name:
        raise ArmadaError("--prompts: expected the task's name before it")
    if name and prompts:
        _write_prompts(name, prompts, data_files, as_json)
    elif name:
        facts = load_card(name).model_dump(exclude_none=True)
        typer.echo(json_text(facts, ensure_ascii=False) if as_json else _yaml(facts))
    elif as_json:
        typer.echo(json_text({"tasks": [load_card(n).model_dump() for n in card_names()]}, ensure_ascii=False))
    else:
        for card in map(load_card, card_names()):
            typer.echo(f"{card.name:26} {card.type:16} {card.title}")


def _write_prompts(name: str, path: Path, data_files: Path | None, as_json: bool) -> None:
    from distill import load_card, load_splits, training_prompts
    from teacher_cache import ArmadaError

    if path.suffix != ".jsonl":
        raise ArmadaError(f"--prompts: expected a file ending in .jsonl, found {path}")
    card = load_card(name)
    splits = load_splits(card, data_files)
    for note in splits.notes:
        typer.echo(f"{name}: {note}", err=True)
    texts = training_prompts(card, data_files, splits)
    _say_what_clip_misses(name, texts)
    path.write_text("".join(json_text({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    typer.echo(json_text({"prompts": len(texts), "path": str(path)}) if as_json else f"{len(texts)} prompts: {path}")


def _say_what_clip_misses(name: str, prompts: list[str]) -> None:
    """Say how many prompts a teacher that reads 77 tokens would not read to their end."""
    from teacher_cache import clip_window, count_beyond

    if any(len(prompt.encode("utf-8")) > 75 for prompt in prompts):  # a token has at least one byte
        beyond = count_beyond(clip_window(), prompts)
        if beyond.prompts:
            typer.echo(f"{name}: {beyond.in_words('a teacher with CLIP (Stable Diffusion)')}", err=True)


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip()
