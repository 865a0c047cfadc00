"""How the command line ends: on Ctrl-C with exit code 130 (a build finishes its calls in flight, other commands end at
once), and on wrong usage with one line and exit code 2."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from pipelines.commands.errors import BAD_INPUT, is_usage, usage_in_words

INTERRUPTED = 130  # the exit code, as shells expect it


class Interruptible(TyperGroup):
    """A group of commands that exit with code 130, as shells expect, on Ctrl-C; finished work is kept."""

    def main(self, args: Any = None, prog_name: str | None = None, *rest: Any, **extra: Any) -> Any:
        """Run the command line; see `click.Command.main`. Wrong usage is one line, in the shape of all errors."""
        is_whole = extra.pop("standalone_mode", True)
        try:
            found = super().main(args, prog_name or "armada", *rest, standalone_mode=False, **extra)
        except Exception as error:
            if not is_whole or not is_usage(error):
                raise
            if message := usage_in_words(error):
                typer.echo(f"error: {message}", err=True)
            raise SystemExit(BAD_INPUT) from None
        if not is_whole:
            return found
        raise SystemExit(found if isinstance(found, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; see `click.Group.invoke`. `ctx` is the context of click or of the copy of it in typer."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted: run the same command again to continue", err=True)
            raise typer.Exit(INTERRUPTED) from None


def stop_on_signal() -> Callable[[], bool]:
    """Return a function that tells whether SIGINT or SIGTERM has arrived; the second one ends the process at once."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        print("\nstopping after the calls in flight; interrupt again to stop at once", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return lambda: bool(received)


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Stop on a signal as `stop_on_signal` says, but only in this context: what comes after it ends at once."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_on_signal()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
