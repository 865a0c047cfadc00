"""The command line. Every import that costs time stands inside the command that needs it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from shutil import get_terminal_size
from textwrap import fill
from typing import Annotated, Optional

import typer

from pipelines.commands.caches.browse import browse
from pipelines.commands.caches.built_prompts import prompts
from pipelines.commands.caches.cache import cache_app
from pipelines.commands.caches.maintenance import compact, export, merge, retry, verify
from pipelines.commands.caches.sharing import pull, push, sync
from pipelines.commands.clean import clean
from pipelines.commands.errors import in_words
from pipelines.commands.interrupts import INTERRUPTED, Interruptible, stopping
from pipelines.commands.options import AsJson
from pipelines.commands.output import show
from pipelines.commands.pilot import pilot
from pipelines.commands.studies import report, study
from pipelines.commands.tasks import tasks_app
from pipelines.commands.training.pretrain import command as pretrain_command
from pipelines.commands.training.train import command as train_command

app = typer.Typer(
    cls=Interruptible,
    pretty_exceptions_enable=False,
)
START = (
    "armada: pay a text-to-image teacher once, train text-only students from its cache, and know whether the pictures "
    "helped."
)
FIRST = (
    ("armada demo --quick", "the whole idea on real data, in 90 seconds"),
    ("armada doctor", "what this machine has"),
    ("armada pilot ROWS --teacher SPEC --encoder SPEC --cache URL", "is this teacher worth paying for?"),
    ("armada cache build ROWS --teacher SPEC --encoder SPEC --cache URL", "pictures and features, once"),
    ("armada train ROWS --student S --cache URL --out DIR", "a student, as often as you like"),
    ("armada study FILE.yaml --out DIR", "did the pictures help?"),
    ("armada clean", "room on the disk, without losing a picture"),
)
ROWS = "ROWS is a .csv, .jsonl or .parquet file with texts and labels. armada --help lists all commands."
for command in (prompts, verify, retry, compact, merge, export, browse, push, pull, sync):
    cache_app.command()(command)
app.add_typer(cache_app, name="cache")
app.add_typer(tasks_app, name="tasks")
app.command("train")(train_command())
app.command("pretrain")(pretrain_command())
for other in (pilot, study, report, clean):
    app.command()(other)


def start_text(columns: int) -> str:
    """Return what `armada` alone prints, for a terminal of so many columns."""
    width = max(len(command) for command, _ in FIRST)
    fits = width + 4 + max(len(words) for _, words in FIRST) <= columns
    gap = "  " if fits else "\n      "
    lines = [f"  {line.ljust(width) if fits else line}{gap}{words}" for line, words in FIRST]
    return "\n\n".join([fill(START, columns), "\n".join(lines), fill(ROWS, columns)])


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Pay a text-to-image teacher once, train text-only students from its cache, know whether the pictures helped."""
    if context.invoked_subcommand is None:
        typer.echo(start_text(get_terminal_size((120, 24)).columns))


@app.command()
def doctor(
    cache: Annotated[Optional[str], typer.Argument(help="A cache whose state to show too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what this machine has: versions, devices, room, credentials by name, the model hub, a cache in one line."""
    from pipelines.doctor import examine

    found = examine(cache)
    if as_json:
        show({"found": [asdict(one) for one in found]}, as_json)
    for one in [] if as_json else found:
        typer.echo(f"{one.name:32} {'; '.join(filter(None, (one.value, one.advice)))}")
    if any(one.advice for one in found):
        raise typer.Exit(3)


@app.command()
def demo(
    out: Annotated[Optional[Path], typer.Option("--out", help="Where to write; default armada-demo.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="256 training rows and one seed.")] = False,
) -> None:
    """Show the whole idea on real data: a cache, the same build again, four students per seed, an honest table."""
    from pipelines.demo import FULL, QUICK, run_demo

    run_demo(out or Path("armada-demo-quick" if quick else "armada-demo"), QUICK if quick else FULL, stopping)


def main() -> None:
    """Run the console script. An error that a user can mend is one message and its exit code, without a traceback."""
    _open_closed_streams()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # transformers imports it where it can, and it warns
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end_at_once()
        raise
    except KeyboardInterrupt:  # before a command has begun
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        found = in_words(error)
        if found is None:
            raise
        print(f"error: {found[0]}", file=sys.stderr)
        raise SystemExit(found[1]) from None


def _open_closed_streams() -> None:
    """Open the null device for a standard stream that whoever started this closed: the next file that is opened would
    get its number, and what is printed would be written into it."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _end_at_once() -> None:
    """End an interrupted process without waiting for threads that still compute; what is finished is on the disk."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread is not threading.current_thread() and not thread.daemon for thread in threading.enumerate()):
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
