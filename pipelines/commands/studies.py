"""The commands `armada study` and `armada report`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from pipelines.commands.caches.workers import RayOptions
from pipelines.commands.options import AsJson
from pipelines.commands.output import show
from pipelines.files import json_text

if TYPE_CHECKING:
    from pipelines.study.report import Report

STUDY_HELP = "The study's YAML file; or the folder or the results.json of a study, which is then done again."


def study(
    file: Annotated[Path, typer.Argument(help=STUDY_HELP)],
    out: Annotated[Path, typer.Option("--out", help="Folder for runs and results.")],
    jobs: Annotated[
        Optional[int], typer.Option("--jobs", min=1, help="Runs at the same time, one process each; default 1.")
    ] = None,
    ray: Annotated[
        Optional[str],
        typer.Option(
            "--ray", metavar="ADDRESS", help="Runs as actors of the Ray cluster at HOST:PORT, or auto; --out is shared."
        ),
    ] = None,
    ray_options: RayOptions = None,
    cache: Annotated[
        Optional[str], typer.Option("--cache", help="Read all features from this cache, and call no teacher.")
    ] = None,
    name: Annotated[
        Optional[str], typer.Option("--name", help="Of the results of several studies, the one that is done again.")
    ] = None,
    keep_students: Annotated[
        bool, typer.Option("--keep-students", help="Keep the weights of every run's student; they are large.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run every arm with every seed, skip the runs that are finished, and write the report."""
    from rich.console import Console

    from pipelines.study.ledger.reruns import agreement, is_record, read_record
    from pipelines.study.report import write_report
    from pipelines.study.runner import run_study
    from teacher_cache import ArmadaError, RayCluster, ray_options as read_options

    console = Console(stderr=True)
    record = read_record(file, name) if is_record(file) else None

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if jobs and ray:
        raise ArmadaError("--jobs: expected --jobs N or --ray ADDRESS, found both; a cluster does what it has room for")
    if ray_options is not None and ray is None:
        raise ArmadaError("--ray-options: expected --ray ADDRESS beside it")
    with RayCluster(ray, read_options(ray_options or "")) if ray else nullcontext() as cluster:
        is_complete = run_study(file, out, jobs or 1, say, cache, name, cluster, keeps_students=keep_students)
    written = write_report(out)
    facts = _facts(out, written)
    if record:
        same = agreement(record, written.findings.measured)
        facts["same_as_recorded"] = f"{same.same} of {same.of} values, largest difference {same.largest:.2g}"
        is_complete = is_complete and same.same == same.of
    show(facts, as_json)
    if not is_complete:
        raise typer.Exit(3)


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Studies' folders, finished or not; or results.json of studies."),
    ],
    out: Annotated[
        Optional[Path],
        typer.Option("--out", help="Folder for the page of several studies; default armada-report."),
    ] = None,
    pilot: Annotated[
        Optional[list[Path]],
        typer.Option("--pilot", help="A pilot's folder, or a folder of several; what is beside a study is found."),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the report as Markdown, for a README.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a study's report.html, report.md and results.json from its finished runs; or join several studies into
    one page and one table of tasks and read-outs."""
    from pipelines.study.joined.page import write_joined
    from pipelines.study.joined.pilots import given_pilots
    from pipelines.study.joined.table import facts, markdown as joined_markdown
    from pipelines.study.ledger.reruns import STATE
    from pipelines.study.markdown import markdown
    from pipelines.study.report import write_report

    if as_markdown and as_json:
        raise typer.BadParameter("expected --markdown or --json, found both")
    pilots = given_pilots(pilot or [])
    if len(folders) == 1 and not out and ((folders[0] / STATE).exists() or folders[0].suffix != ".json"):
        written = write_report(folders[0], pilots)
        if as_markdown:
            typer.echo(markdown(written), nl=False)
        else:
            show(_facts(folders[0], written), as_json)
        return
    found = write_joined(folders, out or Path("armada-report"), pilots)
    if as_json:
        typer.echo(json_text({**facts(found.joined), "report": str(found.page)}))
    else:
        typer.echo(joined_markdown(found.joined), nl=False)
        if not as_markdown:
            typer.echo(f"\n{found.page}")


def _facts(out: Path, written: Report) -> dict[str, Any]:
    findings = written.findings
    return {
        "verdict": findings.verdict,
        "because": findings.sentence,
        "finished": findings.finished,
        "planned": findings.planned,
        "study_sha256": written.file.digest,
        "changes": " ".join(written.changes),
        **({"pilot": f"{written.said.worth}: {written.agreement}"} if written.said else {}),
        "report": str(out / "report.html"),
    }
