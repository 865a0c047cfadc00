"""A night in a terminal: a table that is drawn anew, or lines in a log, as long as a build runs on this host."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipelines.night.facts import local_time
from pipelines.night.page import dollars
from pipelines.night.progress import Progress, RunProgress, TeacherProgress, Watcher
from pipelines.number_format import duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_SILENCE_S = 60.0  # after which a log gets a line though nothing changed


def watch(
    watcher: Watcher, every_s: float, console: Console, sleep: Callable[[float], object] = time.sleep
) -> Progress:
    """Show how it goes every so many seconds, until no build runs on this host any more. Return the last state."""
    from rich.live import Live

    progress = watcher.look()
    if not console.is_terminal:
        return _lines(watcher, progress, every_s, console, sleep)
    with Live(table(progress), console=console, auto_refresh=False, transient=False) as live:
        while progress.running:
            sleep(every_s)
            progress = watcher.look()
            live.update(table(progress), refresh=True)
    return progress


def _lines(
    watcher: Watcher, progress: Progress, every_s: float, console: Console, sleep: Callable[[float], object]
) -> Progress:
    shown, when = "", 0.0
    while True:
        text = line(progress)
        if text != shown or progress.now - when >= _SILENCE_S:
            console.print(
                f"{local_time(progress.now, '%H:%M:%S')} {text}", markup=False, highlight=False, soft_wrap=True
            )
            shown, when = text, progress.now
        if not progress.running:
            return progress
        sleep(every_s)
        progress = watcher.look()


def line(progress: Progress) -> str:
    """Return how it goes on one line."""
    runs = [
        f"{run.run.prompts or run.run.teacher}: {run.done:,}/{run.run.planned:,} {run.phase}{_pace(run)}"
        for run in progress.running
    ]
    if not runs:
        runs = [f"no build runs on this host{_last(progress)}"]
    return "; ".join([*runs, *map(_teacher, progress.teachers)])


def table(progress: Progress) -> Table:
    """Return how it goes as a table for a terminal."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=f"{progress.cache}  {local_time(progress.now, '%H:%M:%S')}", title_justify="left", min_width=60)
    for name in ("", "pictures", "failed", "calls", "cost", "pace", "left"):
        shown.add_column(name, justify="left" if not name else "right", overflow="fold")
    for one in progress.running:
        run = one.run
        pace = f"{one.per_minute:,.3g}/min" if one.per_minute is not None else "-"
        shown.add_row(
            Text(f"{run.prompts or run.teacher}\n{one.phase}, since {local_time(run.started, '%H:%M')}"),
            f"{one.done:,}/{run.planned:,}",
            f"{run.failed:,}",
            f"{run.calls:,}",
            dollars(run.cost_usd) if run.cost_usd else "-",
            pace,
            duration(one.seconds_left) if one.seconds_left is not None else "-",
        )
    if not progress.running:
        shown.add_row(Text(f"no build runs on this host{_last(progress)}"), "", "", "", "", "", "")
    for teacher in progress.teachers:
        failed = ", ".join(f"{reason} {count:,}" for reason, count in teacher.reasons.counts.items())
        shown.add_row(
            Text(f"all of {teacher.source.name}"),
            f"{teacher.pictures + teacher.waiting:,}",
            Text(failed or "0"),
            f"{teacher.calls:,}",
            dollars(teacher.cost_usd) if teacher.cost_usd else "-",
            "",
            "",
        )
    if progress.problem:
        shown.caption = Text(progress.problem)
    return shown


def _pace(one: RunProgress) -> str:
    text = f", {one.per_minute:,.3g} a minute" if one.per_minute is not None else ""
    return text + (f", {duration(one.seconds_left)} left" if one.seconds_left is not None else "")


def _last(progress: Progress) -> str:
    run = progress.last
    if run is None:
        return ""
    end = run.stopped or ("finished" if run.ended else "was killed")
    return (
        f"; the last one {end if end == 'finished' or not run.ended else 'stopped: ' + end} at {local_time(run.seen)}"
    )


def _teacher(teacher: TeacherProgress) -> str:
    failed = "".join(f", {count:,} {reason}" for reason, count in teacher.reasons.counts.items())
    money = f", {dollars(teacher.cost_usd)}" if teacher.cost_usd else ""
    drawn = teacher.pictures + teacher.waiting
    return f"{teacher.source.name}: {drawn:,} pictures{failed}, {teacher.calls:,} calls{money}"
