"""The commands that maintain a cache, `armada cache ...`: verify, retry, compact, merge and export."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from pipelines.commands.interrupts import stop_on_signal
from pipelines.commands.options import (
    AsJson,
    BudgetUsd,
    MaxCalls,
    PromptPrefix,
    PromptSuffix,
    PromptTemplate,
    Rewrite,
    Url,
    Wait,
)
from pipelines.commands.output import exit_with_code, show
from pipelines.commands.specs import rewritten_fact, with_recipe_options
from pipelines.files import json_text


def verify(
    url: Url,
    recompute: Annotated[int, typer.Option("--recompute", min=0, help="Compute N stored rows again and compare.")] = 0,
    repair: Annotated[
        bool, typer.Option("--repair", help="Move damaged files aside and keep the intact rows.")
    ] = False,
    teacher: Annotated[
        Optional[list[str]], typer.Option("--teacher", help="Draw rows of this teacher again; may be repeated.")
    ] = None,
    encoder: Annotated[
        Optional[list[str]], typer.Option("--encoder", help="Encode rows with this encoder again; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check every file against its commit; exit with code 3 if a check fails."""
    from teacher_cache import Cache, open_encoder, open_teacher, recompute as run_recompute, verify as run_verify

    named = [open_teacher(spec) for spec in teacher or []], [open_encoder(spec) for spec in encoder or []]
    report = run_verify(url, repair=repair)
    again = run_recompute(Cache(url), recompute, *named) if recompute and (repair or not report.problems) else []
    if as_json:
        typer.echo(json_text({**asdict(report), "recomputed": [asdict(entry) for entry in again]}))
    else:
        show({"commits": report.commits, "shards": report.shards, "bytes": report.bytes}, False)
        for problem in report.problems:
            mended = f" [{problem.mended}]" if problem.mended else ""
            typer.echo(f"{problem.kind:8} {problem.path}: {problem.message}{mended}")
        for entry in again:
            result = entry.skipped or f"{entry.asked} computed again, {entry.differing} differ"
            if entry.largest_difference is not None:
                result += f", largest difference {entry.largest_difference:.1e}"
            typer.echo(f"{entry.source}: {result}")
        if not report.problems:
            typer.echo("every file matches its commit")
        elif repair:
            typer.echo("repaired; run the same build again to fill in what is missing")
    if report.problems or any(entry.differing for entry in again):
        raise typer.Exit(3)


def compact(
    url: Url,
    vacuum: Annotated[bool, typer.Option("--vacuum", help="Remove the files that compaction replaced.")] = False,
    retain: Annotated[
        float, typer.Option("--retain", min=0, help="Keep files for so many hours after they were replaced.")
    ] = 24,
    as_json: AsJson = False,
) -> None:
    """Rewrite many small shards as a few large ones; no file is removed without --vacuum.

    Exit with code 3 if replaced files stay because what replaces them is damaged.
    """
    from teacher_cache import Cache, compact as run_compact

    done = run_compact(Cache(url), vacuum=vacuum, retain_hours=retain)
    show({**asdict(done), "kept": done.kept if as_json else len(done.kept)}, as_json)
    if done.kept:
        path, reason = next(iter(done.kept.items()))
        typer.echo(f"{path} stays: {reason}; run: armada cache verify {shlex.quote(url)} --repair", err=True)
        raise typer.Exit(3)


def merge(
    paths: Annotated[list[str], typer.Argument(metavar="SRC... DST", help="Caches to copy, and the one to copy into.")],
    as_json: AsJson = False,
) -> None:
    """Copy into the last cache everything that the other caches have and it lacks."""
    from teacher_cache import ArmadaError, Cache, merge as run_merge

    if len(paths) < 2:
        raise ArmadaError("merge: expected at least two caches, SRC... DST")
    done = run_merge([Cache(path) for path in paths[:-1]], Cache(paths[-1], create=True))
    lists = {"missing": done.missing, "refused": done.refused}
    show({**asdict(done), **(lists if as_json else {name: len(found) for name, found in lists.items()})}, as_json)
    if done.missing or done.refused:
        raise typer.Exit(3)


def export(
    url: Url,
    out: Annotated[str, typer.Argument(help="The folder or URL to write to.")],
    to: Annotated[str, typer.Option("--to", help="parquet: a new cache; webdataset: tars of samples.")],
    as_json: AsJson = False,
) -> None:
    """Write the same pictures and features again; nothing is drawn or encoded again."""
    from teacher_cache import Cache, export as run_export

    show({"features": run_export(Cache(url), out, to), "out": str(Path(out))}, as_json)


def retry(
    url: Url,
    teacher: Annotated[
        Optional[str], typer.Option("--teacher", help="The teacher of the failed rows, with today's options.")
    ] = None,
    encoder: Annotated[Optional[str], typer.Option("--encoder", help="For the pictures that come.")] = None,
    reason: Annotated[
        Optional[list[str]], typer.Option("--reason", help="Retry failures of this reason; may be repeated.")
    ] = None,
    prompt_template: PromptTemplate = None,
    prompt_prefix: PromptPrefix = None,
    prompt_suffix: PromptSuffix = None,
    rewrite: Rewrite = None,
    max_calls: MaxCalls = None,
    budget_usd: BudgetUsd = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Request rows that failed again, once each: transient failures, or those of the given reasons."""
    from teacher_cache import ArmadaError, Cache, check_named, open_encoder, open_teacher, retry as run_retry

    recipe = with_recipe_options(prompt_template, prompt_prefix, prompt_suffix, rewrite)
    cache, reasons = Cache(url), reason or ["transient"]
    reports = []
    if teacher is None or encoder is None:
        check_named(cache, reasons)
        if teacher or encoder:
            raise ArmadaError("cache retry: expected --teacher SPEC and --encoder SPEC together")
    else:
        report = run_retry(
            cache,
            open_teacher(recipe(teacher)),
            open_encoder(encoder),
            reasons,
            max_calls=max_calls,
            budget_usd=budget_usd,
            wait=wait,
            stop=stop_on_signal(),
        )
        reports = [report] if report else []
    if as_json:
        typer.echo(json_text({"retried": [rewritten_fact(report) for report in reports]}))
    else:
        for report in reports:
            show(rewritten_fact(report), False)
    if not reports:
        failed = sorted({word for source in cache.teachers() for word in cache.failures(source)["reason"].to_pylist()})
        others = f"; others failed: --reason {' --reason '.join(failed)}" if failed else ""
        typer.echo(f"nothing to retry: no picture failed for the reason {' or '.join(reasons)}{others}", err=True)
    for report in reports:
        exit_with_code(report)
