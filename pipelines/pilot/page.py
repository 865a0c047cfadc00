"""The page of a pilot: one HTML file that needs no network, and the same facts as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.files import write_json
from pipelines.html_templates import template_environment
from pipelines.number_format import duration, interval, plain, signed
from pipelines.pilot.judgement import Gain, Judgement
from pipelines.pilot.pilot import Pilot
from pipelines.study.plots import scale_of

HTML, JSON = "pilot.html", "pilot.json"


def write_page(pilot: Pilot, folder: Path) -> Path:
    """Write `pilot.html` and `pilot.json` into a folder, which is made, and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JSON, asdict(pilot))
    (folder / HTML).write_text(html(pilot), "utf-8")
    return folder / HTML


def html(pilot: Pilot) -> str:
    """Return the page. Every text is escaped."""
    filters: dict[str, Callable[..., str]] = {
        "interval": interval,
        "signed": signed,
        "plain": plain,
        "duration": duration,
        "dollars": dollars,
    }
    found = pilot.judgement
    return (
        template_environment(filters)
        .get_template("pilot.html.j2")
        .render(
            pilot=pilot,
            found=found,
            price=pilot.price,
            scores=_scores(found) if found else None,
            gains=_gains(found) if found else None,
        )
    )


def dollars(value: float | None) -> str:
    """Return a price: 12.30 USD."""
    if value is None:
        return "not known"
    return f"{value:,.2f} USD" if value >= 0.1 or not value else f"{value:.4f} USD"


def _scores(found: Judgement) -> dict[str, Any]:
    rows = [("pictures", found.pictures), ("shuffled pictures", found.shuffled)]
    rows += [("text", found.text)] if found.text is not None else []
    rows += [("pictures and text", found.both)] if found.both is not None else []
    return {"rows": rows, "scale": scale_of([0.0, *(value for _, value in rows)])}


def _gains(found: Judgement) -> dict[str, Any]:
    named: list[tuple[str, Gain | None]] = [
        ("pictures − shuffled pictures", found.pictures_over_shuffled),
        ("pictures − text", found.pictures_over_text),
        ("pictures and text − text", found.both_over_text),
    ]
    rows = [(name, gain) for name, gain in named if gain]
    ends = [end for _, gain in rows for end in (gain.low, gain.high)]
    return {"rows": rows, "scale": scale_of([0.0, *ends])}
