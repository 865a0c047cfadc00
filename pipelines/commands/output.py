"""The output of the commands: one JSON object, or one line per fact; and the exit code of a build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import typer

from pipelines.files import json_text

if TYPE_CHECKING:
    from pipelines.commands.caches.task_coverage import TaskCoverage
    from teacher_cache import BuildReport, RewriterStatus, TeacherStatus

IN_BATCHES = 5  # the exit code of a build whose pictures are in batches: run it again later


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts on standard output, as one JSON object or as one line each."""
    if as_json:
        typer.echo(json_text(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in sorted(value.items())) or "none"
        elif isinstance(value, float):
            value = f"{value:.4f}" if "usd" in name else f"{value:.3f}"
        typer.echo(f"{name.replace('_', ' '):28} {value if value not in (None, '') else '-'}")


def show_status(
    teachers: Sequence[TeacherStatus], rewriters: Sequence[RewriterStatus], tasks: Sequence[TaskCoverage]
) -> None:
    """Print the status of a cache as text: teachers with their encoders, rewriters, and coverage by task."""
    for teacher in teachers:
        facts = asdict(replace(teacher, encoders=[]))
        del facts["spec"], facts["encoders"]
        show(facts, False)
        for encoder in teacher.encoders:
            typer.echo()
            facts = {f"  {name}": value for name, value in asdict(encoder).items() if name not in ("spec", "options")}
            show({**facts, "  to repeat": encoder.options}, False)
    for rewriter in rewriters:
        typer.echo()
        facts = {f"  {name}": value for name, value in asdict(rewriter).items() if name != "spec"}
        show({"rewriter": facts.pop("  name"), **facts, "  teachers": ", ".join(rewriter.teachers)}, False)
    for task in tasks:
        typer.echo()
        show({f"  {name}": value for name, value in asdict(task).items()}, False)
    if not teachers:
        typer.echo("no teacher has drawn into this cache yet")


def exit_with_code(report: BuildReport) -> None:
    """Print why a build is incomplete and exit with its code; return if it is complete."""
    if report.stopped == "interrupted":
        typer.echo("interrupted; every finished picture is kept. Run the same command again to continue.", err=True)
        raise typer.Exit(130)
    if report.in_batches or report.stopped == "batches":
        also = "; the budget is reached" if report.stopped == "budget" else ""
        typer.echo(
            f"{report.in_batches} pictures are in batches at the provider, due within 24 hours{also}. Run the same "
            "command again later, or with --wait.",
            err=True,
        )
        raise typer.Exit(IN_BATCHES)
    if report.stopped == "budget":
        typer.echo("the budget is reached; raise it and run the same command again to continue.", err=True)
        raise typer.Exit(4)
    if report.failed or report.features_refused:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(report.failed.items()))
        typer.echo(f"failed rows: {reasons or 'none'}; features refused: {report.features_refused}", err=True)
        raise typer.Exit(3)
