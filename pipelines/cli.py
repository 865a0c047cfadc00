"""The command line. Every import that costs time stands inside the command that needs it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Optional

import typer

from pipelines.commands.browse import browse
from pipelines.commands.built_prompts import prompts
from pipelines.commands.cache import cache_app
from pipelines.commands.interrupts import INTERRUPTED, Interruptible
from pipelines.commands.maintenance import compact, export, merge, retry, verify
from pipelines.commands.pilot import pilot
from pipelines.commands.sharing import pull, push, sync
from pipelines.commands.studies import report, study
from pipelines.commands.tasks import tasks_app
from pipelines.commands.training.pretrain import command as pretrain_command
from pipelines.commands.training.train import command as train_command

app = typer.Typer(
    cls=Interruptible,
    help="Pay a text-to-image teacher once, train text-only students from its cache, know whether the pictures helped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (prompts, verify, retry, compact, merge, export, browse, push, pull, sync):
    cache_app.command()(command)
app.add_typer(cache_app, name="cache")
app.add_typer(tasks_app, name="tasks")
app.command("train")(train_command())
app.command("pretrain")(pretrain_command())
for other in (pilot, study, report):
    app.command()(other)


@app.command()
def demo(
    out: Annotated[Optional[Path], typer.Option("--out", help="Where to write; default armada-demo.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="256 training rows and one seed.")] = False,
) -> None:
    """Show the whole idea on real data: a cache, the same build again, four students per seed, an honest table."""
    from pipelines.demo import FULL, QUICK, run_demo

    run_demo(out or Path("armada-demo-quick" if quick else "armada-demo"), QUICK if quick else FULL)


def main() -> None:
    """Run the console script. An error that a user can mend is one message and its exit code, without a traceback."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # transformers imports it where it can, and it warns
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end_at_once()
        raise
    except Exception as error:
        exit_code = getattr(error, "exit_code", None)
        if type(error).__module__.startswith("typer") or exit_code is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(exit_code) from None


def _end_at_once() -> None:
    """End an interrupted process without waiting for threads that still compute; what is finished is on the disk."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread is not threading.current_thread() and not thread.daemon for thread in threading.enumerate()):
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
