"""The page of several studies, which needs no network. Every text is escaped: the template's autoescape is on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipelines.files import write_json
from pipelines.html_templates import template_environment
from pipelines.study.findings import READOUTS
from pipelines.study.joined.entries import entries_of
from pipelines.study.joined.pilots import PilotSaid
from pipelines.study.joined.table import Joined, effect, facts, join, markdown, notes
from pipelines.study.ledger.reruns import RESULTS, STATE
from pipelines.study.plots import scale_of
from teacher_cache import ArmadaError

HTML, MARKDOWN = "report.html", "report.md"
ENTRY_LIMIT = 1.0  # ends beyond it are cut off in the drawing, not in the numbers


@dataclass(frozen=True)
class JoinedReport:
    """Several studies, and the page of them."""

    joined: Joined
    page: Path


def write_joined(places: list[Path], out: Path, pilots: list[PilotSaid]) -> JoinedReport:
    """Write `report.html`, `report.md` and `results.json` of several studies into `out`, which is made.

    Raise ArmadaError if a place is no study, or `out` is the folder of one: its own report stands there.
    """
    if (out / STATE).exists():
        raise ArmadaError(f"--out {out}: expected another folder than that of a study, whose own report is there")
    joined = join(entries_of(places), pilots)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RESULTS, facts(joined))
    (out / MARKDOWN).write_text(markdown(joined), "utf-8")
    (out / HTML).write_text(html(joined), "utf-8")
    return JoinedReport(joined, out / HTML)


def html(joined: Joined) -> str:
    """Return the page of the joined studies."""
    filters: dict[str, Callable[..., str]] = {"effect": effect}
    ends = [
        end
        for line in joined.lines
        for one in line.differences
        for end in (one.mean, *one.bounds)
        if end is not None and abs(end) <= ENTRY_LIMIT
    ]
    return (
        template_environment(filters)
        .get_template("joined.html.j2")
        .render(
            joined=joined,
            verdicts=Counter(line.verdict for line in joined.primary),
            scale=scale_of([0.0, *ends]),
            titles=READOUTS,
            notes=notes(joined),
        )
    )
