"""The table of several benchmarks: what each gave, and its figures as Markdown with the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parts.machine import machine_sentence
from parts.sizes import Benchmark, found_at

NO_BOUND = 2  # the exit code of a benchmark that had nothing to compare with
BOUNDS = {
    0: "its bounds held",
    NO_BOUND: "there was nothing to compare with",
    3: "a bound of its full size was missed",
}
MEANINGS = (
    "What a figure depends on: *a ratio* of two things that were measured in turn hardly depends on the machine; "
    "another *processor* or *disk* gives another figure; *bfloat16* is fast only on a processor with instructions for "
    "it."
)


@dataclass(frozen=True)
class Result:
    """What one benchmark gave: its command, seconds, exit code, its JSON if it printed some, why it did not, and the
    day (UTC, ISO 8601)."""

    name: str
    command: str
    seconds: float
    code: int
    facts: dict[str, Any] | None
    fault: str = ""
    day: str = ""


def rows_of(benchmark: Benchmark, result: Result) -> list[tuple[str, str, str]]:
    """Return the figures of a benchmark as (claim, value in words, what it depends on)."""
    if result.facts is None:
        return [(benchmark.name, f"not measured: {result.fault}", "")]
    found = [(figure, found_at(result.facts, figure.place)) for figure in benchmark.figures]
    return [
        (figure.claim.format_map(result.facts), figure.text.format(value), figure.depends)
        for figure, value in found
        if isinstance(value, (int, float))
    ]


def table(
    title: str, command: str, machine: dict[str, Any], benchmarks: Sequence[Benchmark], results: Sequence[Result]
) -> str:
    """Return the figures of benchmarks and their results, in the same order, as a page of Markdown."""
    days = sorted({result.day for result in results if result.day})
    lines = [
        f"# {title}",
        "",
        f"Written by `{command}`{' on ' + ' and '.join(days) if days else ''}, in "
        f"{sum(result.seconds for result in results) / 60:.0f} minutes. Measured on: {machine_sentence(machine)}",
        "",
        MEANINGS,
        "",
        "| what | measured | depends on | command |",
        "|---|---|---|---|",
    ]
    notes = []
    for benchmark, result in zip(benchmarks, results, strict=True):
        for row in rows_of(benchmark, result):
            lines.append(f"| {' | '.join(row)} | `{result.command}` |".replace("\n", " ").replace("|  |", "| |"))
        told = BOUNDS.get(result.code, f"exit code {result.code}")
        notes.append(f"- {benchmark.name}: {result.seconds:.0f} s; {told}{_sentence(benchmark.note)}")
    return "\n".join([*lines, "", *notes, ""])


def _sentence(note: str) -> str:
    return f". {note[0].upper()}{note[1:]}." if note else "."
