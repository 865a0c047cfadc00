"""The page of a build: one HTML file that needs no network. Every text is escaped, and no secret is in it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

from pipelines.html_templates import template_environment
from pipelines.night.facts import Night, exit_code, local_time, time_zone
from pipelines.night.hours import Window
from pipelines.night.redaction import clean
from pipelines.number_format import duration
from teacher_cache import ArmadaError, Cache, atomic_write, file_name, host_name, sha256, state_folder

KEPT = 50  # pages of one cache


def page_path(cache: Cache, report: str | None, now: float) -> Path | None:
    """Return where a build's page is written: the file `report`, or one in the user's state folder, which no copy of
    the cache contains; None for the report `none`. Raise ArmadaError if the file can't be written."""
    if report == "none":
        return None
    if report is None:
        stamp = time.strftime("%Y-%m-%d-%H%M%S", time.localtime(now))
        host = file_name(host_name())
        return state_folder() / "reports" / f"{host}-{sha256(cache.store.identity.encode())[:16]}" / f"{stamp}.html"
    path = Path(report)
    if path.is_dir():
        raise ArmadaError(f"--report {report}: expected a file, for example build.html, found a folder")
    return path.absolute()


def write_page(night: Night, path: Path, *, is_own: bool) -> None:
    """Write the page, complete or not at all. If the folder is armada's own, its oldest pages are removed.

    Raise OSError or ArmadaError if it can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, html(night).encode("utf-8", "replace"), durable=False)
    if is_own:
        for old in sorted(path.parent.glob("*.html"))[:-KEPT]:
            with contextlib.suppress(OSError):
                old.unlink()


def html(night: Night) -> str:
    """Return the page."""
    filters: dict[str, Any] = {
        "duration": duration,
        "dollars": dollars,
        "number": "{:,}".format,
        "at": local_time,
        "clean": clean,
    }
    tone, title, sentence = verdict(night)
    return (
        template_environment(filters)
        .get_template("night.html.j2")
        .render(
            night=night,
            look=night.look,
            hours=night.hours,
            tone=tone,
            title=title,
            sentence=sentence,
            bars=_bars(night.hours.bars),
            zone=time_zone(),
            code=exit_code(night),
            percent=percent,
        )
    )


def verdict(night: Night) -> tuple[str, str, str]:
    """Return the class, the title and the sentence of a build's result."""
    pictures = f"{night.pictures:,} of {night.requested:,} requested pictures are there"
    failed = night.reasons.rows
    if night.outcome == "error":
        return "did-not-help", "Stopped by an error", f"{night.error}"
    if night.outcome == "budget":
        return "cannot-tell", "The budget is reached", f"{pictures}, {night.missing:,} are still to be drawn."
    if night.outcome == "batches":
        return "cannot-tell", "In batches at the provider", f"{pictures}, {night.in_batches:,} are in batches."
    if night.outcome == "interrupted":
        return "cannot-tell", "Interrupted", f"{pictures}, {night.missing:,} are still to be drawn. Nothing is lost."
    if failed or night.missing or night.features < night.pictures:
        rest = [f"{failed:,} were refused or failed"] if failed else []
        rest += [f"{night.missing:,} are missing"] if night.missing else []
        lacking = night.pictures - night.features
        rest += [f"{lacking:,} have no feature"] if lacking else []
        return "cannot-tell", "Done, but not complete", f"{pictures}; {', '.join(rest)}."
    return "helped", "Done", f"All {night.requested:,} requested pictures are there, each with its feature."


def dollars(value: float | None) -> str:
    """Return a price: 12.30 USD."""
    if value is None:
        return "no price is known"
    return f"{value:,.2f} USD" if value >= 0.1 or not value else f"{value:.4f} USD"


def percent(part: int, whole: int) -> str:
    """Return a share; it is 0 % and 100 % only if it is exactly so."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1 %"
    return f"{min(share, 99.9) if part < whole else share:.3g} %"


def _bars(bars: tuple[Window, ...]) -> dict[str, Any] | None:
    """Return the bars of a chart of answers per minute: place and height in a box of 100 by 100."""
    if len(bars) < 2:
        return None
    most = max(bar.per_minute for bar in bars) or 1.0
    width = 100 / len(bars)
    drawn = [
        {
            "x": round(number * width, 3),
            "width": round(width * 0.86, 3),
            "drawn": round(100 * bar.drawn / bar.minutes / most, 2),
            "failed": round(100 * bar.failed / bar.minutes / most, 2),
        }
        for number, bar in enumerate(bars)
    ]
    return {"bars": drawn, "most": most, "first": bars[0].start, "last": bars[-1].end}
