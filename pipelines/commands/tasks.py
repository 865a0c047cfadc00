"""`armada tasks`: list the task cards, show one, write its prompts, or write a new card of rows of one's own."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from pipelines.commands.options import AsJson
from pipelines.files import check_new_file, check_new_place, json_text, writing

DataFiles = Annotated[
    Optional[Path],
    typer.Option("--data-files", help="Training rows in the card's columns; or a folder with train.* and test.*."),
]


class _Tasks(TyperGroup):
    """`armada tasks NAME` beside `armada tasks new ROWS`: a word that is no command is the name or file of a card."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next((word for word in args if not word.startswith("-")), None)
        is_command = first in self.commands or (first is None and "--help" in args)
        if not is_command and not get_close_matches(first or "", ["new"], 1, 0.6):  # of these, the parser names `new`
            args = ["show", *args]
        return super().parse_args(ctx, args)


tasks_app = typer.Typer(
    cls=_Tasks,
    help="Task cards: list them, show one by its name or file, write its prompts; or write a card of your own rows.",
    epilog="armada tasks [NAME|CARD.yaml] [--data-files F] [--prompts P.jsonl] [--json] lists and shows.",
)


@tasks_app.command(hidden=True)
def show(
    name: Annotated[Optional[str], typer.Argument(help="Show this card: its name, or its file.")] = None,
    prompts: Annotated[
        Optional[Path], typer.Option("--prompts", help="Write its training rows' prompts here, for armada cache build.")
    ] = None,
    data_files: DataFiles = None,
    as_json: AsJson = False,
) -> None:
    """List the task cards, show one, or write the prompts of its training rows."""
    from distill import card_names, find_task, load_card
    from teacher_cache import ArmadaError

    if data_files is not None and not data_files.exists():
        raise ArmadaError(f"--data-files: no such file or folder: {data_files}")
    if prompts and not name:
        raise ArmadaError("--prompts: expected the task's name before it")
    if name and prompts:
        _write_prompts(name, prompts, data_files, as_json)
    elif name:
        facts = find_task(name).model_dump(exclude_none=True)
        typer.echo(json_text(facts, ensure_ascii=False) if as_json else _yaml(facts))
    elif as_json:
        typer.echo(json_text({"tasks": [load_card(n).model_dump() for n in card_names()]}, ensure_ascii=False))
    else:
        for card in map(load_card, card_names()):
            typer.echo(f"{card.name:26} {card.type:16} {card.title}")


@tasks_app.command()
def new(
    rows: Annotated[str, typer.Argument(metavar="ROWS", help="A file or folder with rows, or hf:DATASET.")],
    text_column: Annotated[
        Optional[str], typer.Option("--text-column", metavar="C[,C2]", help="The texts; two columns are pairs.")
    ] = None,
    label_column: Annotated[
        Optional[str], typer.Option("--label-column", metavar="L[,L2...]", help="The labels; several are 0 or 1 each.")
    ] = None,
    type: Annotated[
        Optional[str],
        typer.Option("--type", help="classification, regression, multi-label or similarity, if the guess is wrong."),
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option("--out", metavar="CARD.yaml", help="By default ROWS.yaml, beside the rows.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a card that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a task card of rows of your own, and say what was guessed of them."""
    from distill import card_text, load_splits, new_card
    from teacher_cache import ArmadaError, atomic_write

    made = new_card(rows, text_column, label_column, type)
    path = out or (Path(f"{Path(made.card.name).name}.yaml") if rows.startswith("hf:") else _beside(Path(rows)))
    if path.suffix not in (".yaml", ".yml"):
        raise ArmadaError(f"--out: expected a file ending in .yaml, found {path}")
    check_new_file(path, force)
    splits = load_splits(made.card)  # a card whose rows can't be read is no use
    counts = {name: len(getattr(splits, name)) for name in ("train", "validation", "test")}
    with writing(path):
        atomic_write(path, card_text(made.card, path.parent).encode("utf-8"), durable=False)
    if as_json:
        facts = {"card": str(path), "type": made.card.type, "classes": made.card.classes, "rows": counts}
        typer.echo(json_text({**facts, "said": [*made.said, *splits.notes]}, ensure_ascii=False))
        return
    for line in (*made.said, *splits.notes):
        typer.echo(line, err=True)
    typer.echo(f"rows: {', '.join(f'{count:,} {name}' for name, count in counts.items())}", err=True)
    typer.echo(f"card: {path}")


def _beside(rows: Path) -> Path:
    """Return the path of the card beside a file or a folder."""
    place = rows.absolute() if rows.name in ("", "..") else rows
    return place.parent / f"{place.stem if place.suffix else place.name}.yaml"


def _write_prompts(name: str, path: Path, data_files: Path | None, as_json: bool) -> None:
    from distill import find_task, load_splits, training_prompts
    from teacher_cache import ArmadaError, atomic_write

    if path.suffix != ".jsonl":
        raise ArmadaError(f"--prompts: expected a file ending in .jsonl, found {path}")
    check_new_place("--prompts", path)
    card = find_task(name)
    splits = load_splits(card, data_files)
    for note in splits.notes:
        typer.echo(f"{name}: {note}", err=True)
    texts = training_prompts(card, data_files, splits)
    _say_what_clip_misses(name, texts)
    lines = "".join(json_text({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    with writing(path):
        atomic_write(path, lines.encode("utf-8"), durable=False)
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
