"""Ctrl-C on the command line: one message and exit code 130."""

from __future__ import annotations

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
