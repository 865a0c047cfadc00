"""The command `armada pilot`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from pipelines.commands.caches.price_words import offer, price_lines
from pipelines.commands.interrupts import INTERRUPTED, stop_on_signal
from pipelines.commands.options import (
    AsJson,
    BudgetUsd,
    CacheUrl,
    Column,
    EncoderSpec,
    LabelColumn,
    MaxCalls,
    PromptPrefix,
    PromptSuffix,
    PromptTemplate,
    Rewrite,
    TaskType,
    TeacherSpec,
)
from pipelines.commands.output import IN_BATCHES, show
from pipelines.commands.specs import both_named, with_recipe_options
from pipelines.commands.tasks import DataFiles
from pipelines.commands.training.train import Rows
from pipelines.files import check_cache, check_folder, json_text

if TYPE_CHECKING:
    from pipelines.pilot.pilot import Pilot

TEXT_ENCODER = "text:minilm"


def pilot(
    cache: CacheUrl,
    rows: Rows = None,
    text_column: Column = None,
    label_column: LabelColumn = None,
    type: TaskType = None,
    task: Annotated[
        Optional[str], typer.Option("--task", help="A task card by name or file; ROWS, if given, are its rows.")
    ] = None,
    data_files: DataFiles = None,
    teacher: TeacherSpec = None,
    encoder: EncoderSpec = None,
    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Unique prompts to draw in all.")] = 300,
    text_encoder: Annotated[
        Optional[str],
        typer.Option("--text-encoder", help="Embeds the prompts' texts, for comparison; none leaves it out."),
    ] = TEXT_ENCODER,
    margin: Annotated[float, typer.Option("--margin", min=0, help="A gain below it is not worth paying for.")] = 0.05,
    prompt_template: PromptTemplate = None,
    prompt_prefix: PromptPrefix = None,
    prompt_suffix: PromptSuffix = None,
    rewrite: Rewrite = None,
    max_calls: MaxCalls = None,
    budget_usd: BudgetUsd = None,
    out: Annotated[
        Optional[Path], typer.Option("--out", help="Folder for the page and pilot.json; default armada-pilot/TASK.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a few hundred of a task's prompts and say, with intervals, whether its pictures know the labels, and what
    the whole would cost. The pictures are kept: nothing is paid again. Look as often as you like."""
    from distill import load_splits
    from pipelines.pilot.page import write_page
    from pipelines.pilot.pilot import PilotOptions, run_pilot
    from pipelines.run.task import TaskChoice, say, task_of
    from teacher_cache import Cache, MissingPackageError, open_encoder, open_teacher, price_notes

    check_cache(cache)
    if out is not None:
        check_folder("--out", out)
    choice, card = task_of(TaskChoice(rows, task, data_files, text_column, label_column, type))
    splits = load_splits(card, choice.data_files)
    say(card, splits.notes)
    recipe = with_recipe_options(prompt_template, prompt_prefix, prompt_suffix, rewrite)
    teacher, encoder = both_named(cache, teacher, encoder)
    opened_teacher, opened_encoder = open_teacher(recipe(teacher)), open_encoder(encoder)
    text = None
    if text_encoder not in (None, "none"):
        try:
            text = open_encoder(str(text_encoder))
        except MissingPackageError as error:
            if text_encoder != TEXT_ENCODER:
                raise
            typer.echo(f"warning: without a text embedding for comparison: {error}", err=True)
    options = PilotOptions(prompts, max_calls, budget_usd, margin)
    prices = price_notes(opened_teacher)

    def announce(calls: int, whole_calls: int, each: float | None) -> None:
        for line in (offer(prices, calls, whole_calls, each), *price_lines(prices, each)):
            typer.echo(f"armada pilot: {line}", err=True)

    found = run_pilot(
        card,
        splits,
        Cache(cache, create=True),
        opened_teacher,
        opened_encoder,
        text,
        options,
        stop_on_signal(),
        announce,
    )
    page = write_page(found, out or Path("armada-pilot", *card.name.split("/")))
    if as_json:
        typer.echo(json_text({**asdict(found), "page": str(page)}))
    else:
        show(_facts(found, page), False)
    if found.stopped:
        raise typer.Exit({"interrupted": INTERRUPTED, "batches": IN_BATCHES}.get(found.stopped, 4))


def _facts(found: Pilot, page: Path) -> dict[str, Any]:
    judgement, price = found.judgement, found.price
    facts: dict[str, Any] = {"judgement": judgement.sentence if judgement else found.note}
    if judgement:
        facts |= {
            f"{judgement.score}, pictures": judgement.pictures,
            "  shuffled pictures": judgement.shuffled,
            "  text": judgement.text,
            "  pictures and text": judgement.both,
        }
    return {
        **facts,
        "calls": price.calls,
        "cost_usd": price.cost_usd,
        "refused": f"{price.refused:.1%} ({price.refused_low:.1%} to {price.refused_high:.1%})",
        "the rest: calls": price.whole_calls,
        "  cost_usd": price.whole_usd,
        "  seconds": price.whole_seconds,
        "page": str(page),
    }
