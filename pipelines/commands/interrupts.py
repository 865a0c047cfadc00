"""How the command line answers Ctrl-C."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup


class Interruptible(TyperGroup):
    """Commands that Ctrl-C ends with the exit code that shells expect: what they finished is kept."""

    def invoke(self, context: Any) -> Any:
        """See click."""
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            typer.echo("interrupted: the same command goes on from here", err=True)
            raise typer.Exit(130) from None
