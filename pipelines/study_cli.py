"""`armada study` and `armada report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cache_cli import AsJson
from pipelines.output import show


def study(
    file: Annotated[Path, typer.Argument(help="The study's YAML.")],
    out: Annotated[Path, typer.Option("--out", help="Where runs and results are written.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at once, one process each.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Run every arm with every seed, resuming what is there, and write the report."""
    from rich.console import Console

    from pipelines.study import run_study

    console = Console(stderr=True, highlight=False)
    if not run_study(file, out, jobs, lambda line: console.print(line, markup=False)):
        raise typer.Exit(3)
    show({"out": str(out)}, as_json)
