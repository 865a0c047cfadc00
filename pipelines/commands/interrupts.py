"""How the command line ends: on Ctrl-C with exit code 130 (a build finishes its calls in flight, other commands end at
once), and on wrong usage with one line and exit code 2."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from pipelines.commands.errors import BAD_INPUT, is_usage, usage_in_words

INTERRUPTED = 130  # the exit code, as shells expect it
STOPS_WITHIN_S = 2.0


class Interruptible(TyperGroup):
    """A group of commands that exit with code 130, as shells expect, on Ctrl-C; finished work is kept."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; see `click.Command.main`. Wrong usage is one line, in the shape of all errors."""
        try:
            found = super().main(args, prog_name or "armada", complete_var, False, windows_expand_args, **extra)
        except Exception as error:
            if not standalone_mode or not is_usage(error):
                raise
            if message := usage_in_words(error):
                typer.echo(f"error: {message}", err=True)
            raise SystemExit(BAD_INPUT) from None
        if not standalone_mode:
            return found
        raise SystemExit(found if isinstance(found, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; see `click.Group.invoke`. `ctx` is the context of click or of the copy of it in typer."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("interrupted: run the same command again to continue", err=True)
            raise typer.Exit(INTERRUPTED) from None


def stop_on_signal(within_s: float | None = None) -> Callable[[], bool]:
    """Return a function that tells whether SIGINT or SIGTERM has arrived; the second one ends the process at once.

    With `within_s`, the process ends after so many seconds even if calls are in flight: for calls that cost nothing.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        if within_s is None:
            print("\nstopping after the calls in flight; interrupt again to stop at once", file=sys.stderr)
            return
        print("\nstopping; what is finished is kept, and the same command goes on from it", file=sys.stderr)
        timer = threading.Timer(within_s, os._exit, (INTERRUPTED,))  # a write that it cuts off is as if never begun
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return lambda: bool(received)


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Stop within seconds of a signal, in this context only: what comes after it ends at once by itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_on_signal(STOPS_WITHIN_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
