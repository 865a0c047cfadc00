"""The output of the commands: one JSON object, or one line per fact."""

from __future__ import annotations

from typing import Any

import typer

from pipelines.files import json_text


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts on standard output, as one JSON object or as one line each."""
    if as_json:
        typer.echo(json_text(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in sorted(value.items())) or "none"
        elif isinstance(value, float):
            value = f"{value:.3f}"
        typer.echo(f"{name.replace('_', ' '):28} {value if value not in (None, '') else '-'}")
