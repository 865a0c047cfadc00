"""The commands that keep a cache in order: verify, compact, merge, export. They join `armada cache`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipelines.commands.cache import AsJson, Url
from pipelines.commands.output import show


def verify(
    url: Url,
    recompute: Annotated[int, typer.Option("--recompute", min=0, help="Ask again for N stored rows.")] = 0,
    repair: Annotated[bool, typer.Option("--repair", help="Move aside what is broken, save what is sound.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check every file against its commit; exit code 3 where something doesn't hold."""
    from teacher_cache import Cache, recompute as run_recompute, verify as run_verify

    found = run_verify(url, repair=repair)
    again = run_recompute(Cache(url), recompute) if recompute and (repair or not found.problems) else []
    if as_json:
        typer.echo(json.dumps({**asdict(found), "recomputed": [asdict(entry) for entry in again]}))
    else:
        show({"commits": found.commits, "shards": found.shards, "bytes": found.bytes}, False)
        for problem in found.problems:
            mended = f" [{problem.mended}]" if problem.mended else ""
            typer.echo(f"{problem.kind:8} {problem.path}: {problem.message}{mended}")
        for entry in again:
            result = entry.skipped or f"{entry.asked} asked again, {entry.differing} differ"
            if entry.largest_difference is not None:
                result += f", largest difference {entry.largest_difference:.1e}"
            typer.echo(f"{entry.source}: {result}")
        if not found.problems:
            typer.echo("every file is as its commit says")
        elif repair:
            typer.echo("repaired; the same build again fills what is missing")
    if found.problems or any(entry.differing for entry in again):
        raise typer.Exit(3)


def compact(
    url: Url,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Remove the files that compaction replaced.")] = False,
    as_json: AsJson = False,
) -> None:
    """Few large shards out of many small ones. Nothing is removed without --vacuum."""
    from teacher_cache import Cache, compact as run_compact

    show(asdict(run_compact(Cache(url), vacuum=vacuum)), as_json)


def merge(
    paths: Annotated[list[str], typer.Argument(metavar="SRC... DST", help="Caches to copy, and the one to copy into.")],
    as_json: AsJson = False,
) -> None:
    """Copy into the last cache what the others have and it lacks."""
    from teacher_cache import ArmadaError, Cache, merge as run_merge

    if len(paths) < 2:
        raise ArmadaError("merge: expected at least two caches, SRC... DST")
    done = run_merge([Cache(path) for path in paths[:-1]], Cache(paths[-1], create=True))
    facts = {**asdict(done), "missing": done.missing if as_json else len(done.missing)}
    show(facts, as_json)
    if done.missing:
        raise typer.Exit(3)


def export(
    url: Url,
    out: Annotated[str, typer.Argument(help="The new cache.")],
    to: Annotated[str, typer.Option("--to", help="parquet or webdataset.")],
    as_json: AsJson = False,
) -> None:
    """The same pictures and features in the other format; nothing is drawn or encoded again."""
    from teacher_cache import Cache, export as run_export

    show({"features": run_export(Cache(url), Cache(out, create=True), to), "out": str(Path(out))}, as_json)
