"""The commands of stage one, `armada cache ...`. Slow imports are inside the commands that need them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Optional
from uuid import uuid4

import typer

from pipelines.commands.caches.morning import Every, Notify, Report, Watch, notifies_errors, run_build, watch_cache
from pipelines.commands.caches.price_words import price_facts, price_lines, warn_of_retirement
from pipelines.commands.caches.workers import Ray, RayOptions, Workers, build_as_asked
from pipelines.commands.options import (
    AsJson,
    BudgetUsd,
    CacheUrl,
    Column,
    EncoderSpec,
    LabelColumn,
    Limit,
    MaxCalls,
    PromptPrefix,
    Prompts,
    PromptSuffix,
    PromptTemplate,
    Rewrite,
    Samples,
    Task,
    TaskType,
    TeacherSpec,
    Url,
    Wait,
)
from pipelines.commands.output import exit_with_code, show, show_status
from pipelines.commands.prompts import read_command_prompts
from pipelines.commands.specs import both_named, drawn_prompts, rewritten_fact, with_recipe_options, with_rewriting
from pipelines.files import json_text

cache_app = typer.Typer(
    help="Stage one: draw pictures and compute features once, and keep them in shards.", no_args_is_help=True
)


@cache_app.command()
def plan(
    prompts: Prompts,
    cache: CacheUrl,
    teacher: TeacherSpec = None,
    encoder: EncoderSpec = None,
    text_column: Column = None,
    label_column: LabelColumn = None,
    type: TaskType = None,
    task: Task = None,
    samples: Samples = 1,
    limit: Limit = None,
    prompt_template: PromptTemplate = None,
    prompt_prefix: PromptPrefix = None,
    prompt_suffix: PromptSuffix = None,
    rewrite: Rewrite = None,
    as_json: AsJson = False,
) -> None:
    """Show what a build would do: rows, pictures and features at hand, calls to make. Nothing is called or written."""
    from teacher_cache import (
        Cache,
        NoCacheError,
        batched,
        beyond_window,
        expected_price,
        expected_seconds,
        make_plan,
        make_requests,
        open_encoder,
        open_teacher,
        price_notes,
        redraw_notes,
        source_of_encoder,
        source_of_teacher,
        spent_so_far,
    )

    recipe = with_recipe_options(prompt_template, prompt_prefix, prompt_suffix, rewrite)
    teacher, encoder = both_named(cache, teacher, encoder)
    opened_teacher = open_teacher(recipe(teacher))
    teacher_source, encoder_source = source_of_teacher(opened_teacher), source_of_encoder(open_encoder(encoder))
    texts = read_command_prompts(prompts, text_column, label_column, task, type)
    requests = make_requests(teacher_source, texts, samples, limit)
    try:
        opened_cache, is_there = Cache(cache), True
    except NoCacheError:  # plan for an empty one, which is in memory only
        opened_cache, is_there = Cache(f"memory://armada-plan-{uuid4()}", create=True), False
    made = make_plan(opened_cache, teacher_source, encoder_source, requests)
    coming = batched(opened_cache, teacher_source, requests) if is_there else 0
    calls = made.calls - coming
    prices = price_notes(opened_teacher)
    each = expected_price(opened_cache, teacher_source, prices.usd, is_exact=prices.is_exact)
    facts: dict[str, Any] = {
        "rows": requests.rows,
        "unique_prompts": requests.unique_prompts,
        "pictures_at_hand": made.pictures_at_hand,
        "features_at_hand": made.features_at_hand,
        "failed": dict(made.failed),
        **({"in_batches": coming} if coming else {}),
        "calls": calls,
        **with_rewriting(
            price_facts(prices, calls, each, spent_so_far(opened_cache, teacher_source)),
            opened_cache,
            made,
            opened_teacher,
        ),
        "seconds": expected_seconds(opened_cache, teacher_source, encoder_source, made) if is_there else None,
    }
    beyond = beyond_window(opened_teacher, drawn_prompts(teacher_source, requests.prompts))
    notes = [*redraw_notes(opened_cache, teacher_source, made), *price_lines(prices, each)]
    if as_json:
        facts |= {"notes": notes, **({"beyond_window": asdict(beyond)} if beyond else {})}
    show(facts, as_json)
    for note in notes:
        typer.echo(f"teacher {teacher_source.spec.get('kind', '')}: {note}", err=True)
    if beyond and beyond.prompts:
        typer.echo(beyond.in_words(), err=True)


@cache_app.command()
@notifies_errors
def build(
    prompts: Prompts,
    cache: CacheUrl,
    teacher: TeacherSpec = None,
    encoder: EncoderSpec = None,
    text_column: Column = None,
    label_column: LabelColumn = None,
    type: TaskType = None,
    task: Task = None,
    samples: Samples = 1,
    limit: Limit = None,
    prompt_template: PromptTemplate = None,
    prompt_prefix: PromptPrefix = None,
    prompt_suffix: PromptSuffix = None,
    rewrite: Rewrite = None,
    max_calls: MaxCalls = None,
    budget_usd: BudgetUsd = None,
    concurrency: Annotated[
        Optional[int],
        typer.Option(
            "--concurrency", min=1, help="Requests in flight, of each worker, if the teacher accepts several."
        ),
    ] = None,
    shard_rows: Annotated[int, typer.Option("--shard-rows", min=1, help="Most rows per shard.")] = 8192,
    shard_bytes: Annotated[int, typer.Option("--shard-bytes", min=1, help="Most bytes of pictures.")] = 1 << 30,
    seal_rows: Annotated[int, typer.Option("--seal-rows", min=1, help="Seal shards after so many pictures.")] = 2048,
    seal_seconds: Annotated[
        float, typer.Option("--seal-seconds", min=0, help="Seal shards after so many seconds.")
    ] = 600,
    format: Annotated[
        str, typer.Option("--format", help="parquet, or webdataset: also tars of pictures with their features.")
    ] = "parquet",
    redraw_missing: Annotated[
        bool, typer.Option("--redraw-missing", help="Draw again what was in files that are gone for good.")
    ] = False,
    workers: Workers = None,
    ray: Ray = None,
    ray_options: RayOptions = None,
    wait: Wait = False,
    notify: Notify = None,
    report: Report = None,
    as_json: AsJson = False,
) -> None:
    """Draw every missing picture once, and encode every picture without a feature. A report page tells how it went."""
    from teacher_cache import (
        ArmadaError,
        BuildOptions,
        Cache,
        make_requests,
        open_encoder,
        open_teacher,
        sends_batches,
        source_of_teacher,
    )

    options = BuildOptions(
        samples=samples,
        limit=limit,
        max_calls=max_calls,
        budget_usd=budget_usd,
        shard_rows=shard_rows,
        shard_bytes=shard_bytes,
        seal_rows=seal_rows,
        seal_seconds=seal_seconds,
        format=format,
        redraw_missing=redraw_missing,
        wait=wait,
        prompts=Path(prompts).name if Path(prompts).suffix else prompts,
    )
    recipe = with_recipe_options(prompt_template, prompt_prefix, prompt_suffix, rewrite)
    teacher, encoder = both_named(cache, teacher, encoder)
    opened_teacher, opened_encoder = open_teacher(recipe(teacher)), open_encoder(encoder)
    if wait and not sends_batches(opened_teacher):
        raise ArmadaError(f"--wait: the teacher {teacher} sends no batches; leave it out")
    if concurrency is not None:
        if not hasattr(opened_teacher, "concurrency"):
            raise ArmadaError(f"--concurrency: the teacher {teacher} accepts one request at a time; leave it out")
        opened_teacher.concurrency = concurrency
    warn_of_retirement(opened_teacher)
    texts = read_command_prompts(prompts, text_column, label_column, task, type)
    requests = make_requests(source_of_teacher(opened_teacher), texts, samples, limit)
    opened_cache = Cache(cache, create=True)
    built, page = run_build(
        lambda stop: build_as_asked(
            opened_cache,
            requests,
            (opened_teacher, opened_encoder),
            options,
            (recipe(teacher), encoder),
            workers=workers,
            ray=ray,
            ray_options=ray_options,
            concurrency=concurrency,
            stop=stop,
        ),
        opened_cache,
        requests,
        opened_teacher,
        opened_encoder,
        prompts,
        notify,
        report,
    )
    show({**rewritten_fact(built), "report": str(page) if page else None}, as_json)
    exit_with_code(built)


@cache_app.command()
def status(url: Url, watch: Watch = False, every: Every = 2.0, as_json: AsJson = False) -> None:
    """Show a cache in numbers: pictures, features, failures by reason, coverage by task, calls, cost, size, rates."""
    if watch:
        watch_cache(url, every, as_json)
        return
    from pipelines.commands.caches.task_coverage import task_coverage
    from teacher_cache import Cache, rewriter_status, status as read_status

    cache = Cache(url)
    teachers, rewriters, tasks = read_status(cache), rewriter_status(cache), task_coverage(cache)
    if as_json:
        facts = {"teachers": [asdict(teacher) for teacher in teachers], "tasks": [asdict(task) for task in tasks]}
        facts |= {"rewriters": [asdict(rewriter) for rewriter in rewriters]} if rewriters else {}
        typer.echo(json_text({"cache": url, **facts}))
        return
    show_status(teachers, rewriters, tasks)
