"""All benchmarks at a small size: one table of their figures, with the machine that they were measured on.

    python benchmarks/all.py [--out armada-bench] [--only NAME ...] [--tiny]

Writes DIR/benchmarks.md and DIR/benchmarks.json, after each benchmark. The bounds of a benchmark are those of its full
size; at a small size they are told and don't decide. Exit code 1 if a benchmark could not be run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from parts.machine import machine_facts, machine_sentence
from parts.sizes import BENCHMARKS, Benchmark, found_at

HERE = Path(__file__).resolve().parent
LIMIT_S = 900.0
TITLE = "Benchmarks at a small size"
NO_BOUND = 2  # the exit code of a benchmark that had nothing to compare with


@dataclass(frozen=True)
class Result:
    """What one benchmark gave: its command, seconds, exit code, its JSON if it printed some, and why it did not."""

    name: str
    command: str
    seconds: float
    code: int
    facts: dict[str, Any] | None
    fault: str = ""


def run(benchmark: Benchmark, words: str, limit_s: float = LIMIT_S) -> Result:
    """Run a benchmark in a process of its own."""
    command = [sys.executable, str(HERE / benchmark.program), *words.split()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    started = time.monotonic()
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
        code, out, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, out, errors = 124, "", f"no result within {limit_s:.0f} s"
    facts = _json_in(out)
    fault = "" if facts is not None else (errors.strip().splitlines() or [f"exit code {code}, without a word"])[-1]
    shown = f"python benchmarks/{benchmark.program} {words}"
    return Result(benchmark.name, shown, round(time.monotonic() - started, 1), code, facts, fault[:300])


def _json_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a program printed, whatever it printed before it; None if there is none."""
    start = text.find("{")
    try:
        found = json.loads(text[start:]) if start >= 0 else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def rows_of(benchmark: Benchmark, result: Result) -> list[tuple[str, str]]:
    """Return the figures of a benchmark as (claim, value in words)."""
    if result.facts is None:
        return [(benchmark.name, f"not measured: {result.fault}")]
    found = [(figure, found_at(result.facts, figure.place)) for figure in benchmark.figures]
    return [(figure.claim, figure.text.format(value)) for figure, value in found if isinstance(value, (int, float))]


def table(title: str, machine: dict[str, Any], benchmarks: Sequence[Benchmark], results: Sequence[Result]) -> str:
    """Return the figures as Markdown."""
    lines = [
        f"# {title}",
        "",
        f"Measured on: {machine_sentence(machine)}",
        "",
        "| what | measured | command |",
        "|---|---|---|",
    ]
    notes = []
    for benchmark, result in zip(benchmarks, results, strict=True):
        for claim, value in rows_of(benchmark, result):
            lines.append(f"| {claim} | {value} | `{result.command}` |".replace("\n", " "))
        bounds = {0: "its bounds held", 3: "a bound of its full size was missed"}
        told = bounds.get(result.code, "there was nothing to compare with" if result.code == NO_BOUND else "")
        notes.append(
            f"- {benchmark.name}: {result.seconds:.0f} s; {told or f'exit code {result.code}'}"
            + (f". {benchmark.note}." if benchmark.note else ".")
        )
    return "\n".join([*lines, "", *notes, ""])


def main() -> int:
    """Run them one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("armada-bench"))
    parser.add_argument("--only", nargs="+", choices=[one.name for one in BENCHMARKS], metavar="NAME")
    parser.add_argument("--tiny", action="store_true", help="only to see that they run: the figures mean nothing")
    options = parser.parse_args()
    chosen = [one for one in BENCHMARKS if not options.only or one.name in options.only]
    options.out.mkdir(parents=True, exist_ok=True)
    machine = machine_facts()
    results: list[Result] = []
    for benchmark in chosen:
        print(f"{benchmark.name} ...", file=sys.stderr, flush=True)
        results.append(run(benchmark, benchmark.tiny if options.tiny else benchmark.small))
        facts = {"machine": machine, "tiny": options.tiny, "results": [asdict(one) for one in results]}
        (options.out / "benchmarks.json").write_text(json.dumps(facts, indent=1), "utf-8")
        (options.out / "benchmarks.md").write_text(table(TITLE, machine, chosen[: len(results)], results), "utf-8")
    print((options.out / "benchmarks.md").read_text("utf-8"))
    failed = [one.name for one in results if one.facts is None]
    if failed:
        print(f"not measured: {', '.join(failed)}; {options.out}/benchmarks.json says why", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
