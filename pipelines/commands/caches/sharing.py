"""The commands that share a cache, `armada cache ...`: push, pull and sync."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from pipelines.commands.options import AsJson, Column
from pipelines.commands.output import show

if TYPE_CHECKING:
    from teacher_cache import Shared

DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would be sent, and send nothing.")]
Folder = Annotated[str, typer.Argument(metavar="DIR", help="The cache on this machine.")]
Remote = Annotated[
    str, typer.Argument(metavar="URL", help="s3://BUCKET/FOLDER, hf://buckets/OWNER/NAME or any other fsspec URL.")
]


def push(folder: Folder, url: Remote, dry_run: DryRun = False, as_json: AsJson = False) -> None:
    """Send to URL what DIR has and URL lacks, commits last. A repeated push sends only what is new.

    Exit with code 3 if files are missing or damaged, so that what counts with them was not sent.
    """
    from teacher_cache import push as run_push

    _show(run_push(folder, url, dry_run=dry_run), dry_run, as_json)


def pull(
    url: Remote,
    folder: Folder,
    teacher: Annotated[
        Optional[str], typer.Option("--teacher", help="Take only this teacher: its spec, or its name in the cache.")
    ] = None,
    encoder: Annotated[
        Optional[str], typer.Option("--encoder", help="Take only the features of this encoder, and no pictures.")
    ] = None,
    task: Annotated[
        Optional[str],
        typer.Option("--task", help="Take only shards with rows of this task: a card's name, or a file of prompts."),
    ] = None,
    text_column: Column = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Fetch into DIR what URL has and DIR lacks, or a part of it. A build of a part pays for nothing left out.

    Exit with code 3 if files are missing or damaged.
    """
    from pipelines.commands.prompts import read_command_prompts
    from teacher_cache import ArmadaError, PullFilter, pull as run_pull

    if text_column and not task:
        raise ArmadaError("--text-column: expected --task FILE, whose column it names")
    prompts = list(read_command_prompts(task, text_column, None, None)) if task else None
    only = PullFilter(teacher, encoder, prompts, task or "")
    _show(run_pull(url, folder, only, dry_run=dry_run), dry_run, as_json)


def sync(
    first: Annotated[str, typer.Argument(metavar="A", help="A cache: a folder or any fsspec URL.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The other cache.")],
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Send what each of two caches has and the other lacks, commits last.

    Exit with code 3 if files are missing or damaged.
    """
    from teacher_cache import sync as run_sync

    _show(run_sync(first, second, dry_run=dry_run), dry_run, as_json)


def _show(done: Shared, dry_run: bool, as_json: bool) -> None:
    facts = asdict(done)
    if not as_json:
        facts |= {"missing": len(done.missing), "refused": len(done.refused)}
    show(facts | ({"dry_run": True} if dry_run else {}), as_json)
    for path, reason in sorted(done.refused.items())[:5]:
        typer.echo(reason if path in reason else f"{path}: {reason}", err=True)
    for path in done.missing[:5]:
        typer.echo(f"{path}: neither side has it", err=True)
    if not done.is_whole:
        kept = f"; {done.commits_held_back} commits that name them were not sent" if done.commits_held_back else ""
        typer.echo(f"{len(done.missing)} files are missing, {len(done.refused)} refused{kept}", err=True)
        raise typer.Exit(3)
