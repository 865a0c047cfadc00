"""The table of several studies: a line for each task and read-out, with its differences and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.study.findings import READOUTS
from pipelines.study.joined.entries import Difference, Entry
from pipelines.study.joined.pilots import PilotSaid, agreement_in_words, matching, pilots_beside
from pipelines.study.markdown import quoted


@dataclass(frozen=True)
class Line:
    """One read-out of one study. `is_primary`: it was fixed beforehand as the one that decides."""

    entry: Entry
    readout: str
    is_primary: bool
    verdict: str
    sentence: str
    differences: tuple[Difference, ...]
    said: PilotSaid | None

    @property
    def agreement(self) -> str:
        """Whether the pilot said the same, in words; empty without a pilot."""
        return agreement_in_words(self.said, self.verdict) if self.said else ""


@dataclass(frozen=True)
class Joined:
    """All lines, and the names of what the primary arms are compared with, in the order in which they occur."""

    entries: tuple[Entry, ...]
    lines: tuple[Line, ...]
    against: tuple[str, ...]

    @property
    def primary(self) -> list[Line]:
        """The lines whose comparison was fixed beforehand."""
        return [line for line in self.lines if line.is_primary]

    @property
    def pilots(self) -> tuple[int, int]:
        """How many pilots said the same as their study, and how many there are."""
        said = [line for line in self.primary if line.said]
        return sum(line.agreement == "agreed" for line in said), len(said)

    @property
    def counts_rows(self) -> bool:
        """True if all intervals count the chance of the test rows."""
        return all(one.p_both is not None for line in self.lines for one in line.differences)


def join(found: Sequence[tuple[Path, Entry]], pilots: Sequence[PilotSaid]) -> Joined:
    """Return the lines of studies, and each with its pilot if one is given or lies beside it."""
    lines = []
    for place, entry in found:
        said = matching(pilots, entry.task, *entry.sources) or matching(
            pilots_beside(place), entry.task, *entry.sources
        )
        for one in sorted(entry.by_readout, key=lambda one: list(READOUTS).index(one.readout)):
            differences = tuple(entry.of(one.readout))
            lines.append(Line(entry, one.readout, one.is_primary, one.verdict, one.sentence, differences, said))
    against = dict.fromkeys(one.against for line in lines for one in line.differences)
    return Joined(tuple(entry for _, entry in found), tuple(lines), tuple(against))


def markdown(joined: Joined) -> str:
    """Return the table as Markdown, ready for a README, and below it what has to be known to read it."""
    _, pilots = joined.pilots
    heads = ["task", "read-out", *(f"against {quoted(name)}" for name in joined.against), "verdict"]
    heads += ["the pilot said"] if pilots else []
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'---|' * (len(heads) - 2)}"]
    for line in joined.lines:
        by_name = {one.against: one for one in line.differences}
        readout = f"**{READOUTS[line.readout]}**" if line.is_primary else READOUTS[line.readout]
        cells = [quoted(line.entry.task), readout, *(effect(by_name.get(name)) for name in joined.against)]
        cells += [f"**{line.verdict}**" if line.is_primary else line.verdict]
        cells += [f"{line.said.worth}: {line.agreement}" if line.said else ""] if pilots else []
        lines.append(f"| {' | '.join(cells)} |")
    words = [*map(quoted, notes(joined)), "Read-outs in bold were fixed beforehand."]
    return "\n".join([*lines, "", *words]) + "\n"


def notes(joined: Joined) -> list[str]:
    """Return sentences that say what the table shows."""
    found = [
        f"Differences in {_metrics(joined)}, means over seeds, each with its interval by Holm's procedure. Read-outs "
        "that were not fixed beforehand are judged by the same rule, each by itself, and confirm nothing."
    ]
    if joined.counts_rows:
        found.append("The intervals count the chance of the seeds and of the test rows.")
    else:
        found.append(
            "Intervals of studies whose runs keep no predictions count the chance of the seeds alone: "
            + ", ".join(dict.fromkeys(_seeds_alone(joined)))
            + "."
        )
    unfinished = [
        f"{one.study} ({one.finished} of {one.planned})" for one in joined.entries if one.finished < one.planned
    ]
    found += [f"Unfinished studies, by runs: {', '.join(unfinished)}."] if unfinished else []
    agreed, pilots = joined.pilots
    found += [f"The pilot said the same as the study for {agreed} of {pilots}."] if pilots else []
    return found


def facts(joined: Joined) -> dict[str, Any]:
    """Return the joined results as JSON: a row for each line, and the results of each study with its ledger."""
    agreed, pilots = joined.pilots
    return {
        "rows": [
            {
                "study": line.entry.study,
                "task": line.entry.task,
                "student": line.entry.student,
                "metric": line.entry.metric,
                "readout": line.readout,
                "fixed_beforehand": line.is_primary,
                "arm": line.entry.arm,
                "differences": [
                    {"against": one.against, "mean": one.mean, "low": one.bounds[0], "high": one.bounds[1]}
                    for one in line.differences
                ],
                "counts_rows": all(one.p_both is not None for one in line.differences),
                "verdict": line.verdict,
                "pilot": line.said.worth if line.said else None,
                "pilot_agreed": line.said.agrees(line.verdict) if line.said else None,
            }
            for line in joined.lines
        ],
        "pilots": {"agreed": agreed, "of": pilots},
        "studies": [entry.model_dump(mode="json") for entry in joined.entries],
    }


def effect(one: Difference | None) -> str:
    """Return a difference with its interval: +0.012 [+0.003, +0.021]."""
    if one is None:
        return "–"
    mean, low, high = ("?" if end is None else f"{end:+.3f}".replace("-", "−") for end in (one.mean, *one.bounds))
    return f"{mean} [{low}, {high}]"


def _seeds_alone(joined: Joined) -> list[str]:
    return [line.entry.study for line in joined.lines if any(one.p_both is None for one in line.differences)]


def _metrics(joined: Joined) -> str:
    """Return the metric of all studies, or each with its tasks."""
    by_metric: dict[str, dict[str, None]] = {}
    for entry in joined.entries:
        by_metric.setdefault(entry.metric, {})[entry.task] = None
    if len(by_metric) == 1:
        return next(iter(by_metric))
    return ", ".join(f"{metric} ({', '.join(tasks)})" for metric, tasks in by_metric.items())
