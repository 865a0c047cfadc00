"""What the commands print (one JSON object, or a line a fact), the JSON files that they write, and seconds in words."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import typer


def show(facts: dict[str, Any], as_json: bool) -> None:
    """Print facts on standard output."""
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {number}" for key, number in sorted(value.items())) or "none"
        elif isinstance(value, float):
            value = f"{value:.3f}"
        typer.echo(f"{name.replace('_', ' '):28} {value if value not in (None, '') else '-'}")


def write_json(path: Path, value: Any) -> None:
    """Write a file that appears whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(value, indent=1), "utf-8")
    os.replace(draft, path)


def duration(seconds: float | None) -> str:
    """Seconds in words: 42 s, 3.5 min, 2.1 h."""
    if seconds is None:
        return "not measured"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
