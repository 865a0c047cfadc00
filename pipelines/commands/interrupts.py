"""Ctrl-C on the command line: a build finishes its calls in flight, other commands end at once. Exit code 130."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

INTERRUPTED = 130  # the exit code, as shells expect it


class Interruptible(TyperGroup):
    """A group of commands that exit with code 130, as shells expect, on Ctrl-C; finished work is kept."""

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
