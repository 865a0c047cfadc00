"""The commands `armada study` and `armada report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.commands.options import AsJson
from pipelines.commands.output import show

if TYPE_CHECKING:
    from pipelines.study.report import Report


def study(
    file: Annotated[Path, typer.Argument(help="The study's YAML file.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for runs and results.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Runs at the same time, one process each.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Run every arm with every seed, skip the runs that are finished, and write the report."""
    from rich.console import Console

    from pipelines.study.report import write_report
    from pipelines.study.runner import run_study

    console = Console(stderr=True)
    plain = {"markup": False, "highlight": False, "soft_wrap": True}
    is_complete = run_study(file, out, jobs, lambda line: console.print(line, **plain))  # type: ignore[arg-type]
    show(_facts(out, write_report(out)), as_json)
    if not is_complete:
        raise typer.Exit(3)


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder, finished or not.")],
    as_json: AsJson = False,
) -> None:
    """Write a study's report.html, report.md and results.json from its finished runs."""
    from pipelines.study.report import write_report

    show(_facts(folder, write_report(folder)), as_json)


def _facts(out: Path, written: Report) -> dict[str, Any]:
    findings = written.findings
    return {
        "verdict": findings.verdict,
        "because": findings.sentence,
        "finished": findings.finished,
        "planned": findings.planned,
        "study_sha256": written.file.digest,
        "changes": " ".join(written.changes),
        "report": str(out / "report.html"),
    }
