"""The command `armada clean`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from pipelines.commands.options import AsJson
from pipelines.files import json_text
from pipelines.number_format import bytes_in_words


def clean(
    folders: Annotated[
        Optional[list[Path]],
        typer.Argument(metavar="[DIR...]", help="Folders of runs, studies, demos or caches; default: of all caches."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what is computed again when it is needed (decoded features, aligners, lists of the gallery), and what
    finished runs left (checkpoints, and the students of a study's finished runs). Caches are never touched."""
    from pipelines.cleaning import find_items, remove

    items = find_items(folders or [])
    items = items if dry_run else [remove(item) for item in items]
    gone, kept = [[one for one in items if bool(one.kept) is is_kept] for is_kept in (False, True)]
    freed = sum(one.bytes for one in gone)
    if as_json:
        lists = {
            name: [{**asdict(one), "path": str(one.path)} for one in some]
            for name, some in (("removed", gone), ("kept", kept))
        }
        typer.echo(json_text({"dry_run": dry_run, "bytes": freed, **lists}))
        return
    for one in gone:
        verb = "would remove" if dry_run else "removed"
        typer.echo(f"{verb}  {bytes_in_words(one.bytes):>8}  {one.what}: {one.path}")
    for one in kept:
        typer.echo(f"kept  {bytes_in_words(one.bytes):>8}  {one.what}: {one.path}; {one.kept}")
    typer.echo(f"{bytes_in_words(freed)} {'could be' if dry_run else 'were'} removed")
