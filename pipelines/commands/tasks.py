"""`armada tasks`: list the task cards, show one, or write its prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from pipelines.commands.cache import AsJson

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
        typer.echo(json.dumps(facts, ensure_ascii=False) if as_json else _yaml(facts))
    elif as_json:
        typer.echo(json.dumps({"tasks": [load_card(n).model_dump() for n in card_names()]}, ensure_ascii=False))
    else:
        for card in map(load_card, card_names()):
            typer.echo(f"{card.name:26} {card.type:16} {card.title}")


def _write_prompts(name: str, path: Path, data_files: Path | None, as_json: bool) -> None:
    from distill import load_card, training_prompts
    from teacher_cache import ArmadaError

    if path.suffix != ".jsonl":
        raise ArmadaError(f"--prompts: expected a file ending in .jsonl, found {path}")
    texts = training_prompts(load_card(name), data_files)
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), "utf-8")
    typer.echo(json.dumps({"prompts": len(texts), "path": str(path)}) if as_json else f"{len(texts)} prompts: {path}")


def _yaml(value: Any) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True)).rstrip()
