"""All benchmarks at a small size: one table of their figures, with the machine that they were measured on.

    python benchmarks/all.py [--out armada-bench] [--only NAME ...] [--add] [--tiny]
    python benchmarks/all.py --table --out docs

Writes DIR/benchmarks.md and DIR/benchmarks.json, after each benchmark. --add keeps what DIR has of other benchmarks, if
it was measured on the same machine at the same size; --table runs nothing and writes the page from the JSON. docs/ has
both files: README takes its figures from there. The bounds of a benchmark are those of its full size; at a small size
they are told and don't decide. Exit code 1 if a benchmark could not be run, 2 if there is nothing to add to.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from parts.machine import machine_facts
from parts.sizes import BENCHMARKS, Benchmark
from parts.table import Result, table

HERE = Path(__file__).resolve().parent
LIMIT_S = 900.0
TITLE = "Benchmarks at a small size"


def run(benchmark: Benchmark, words: str, limit_s: float = LIMIT_S) -> Result:
    """Run a benchmark in a process of its own."""
    command = [sys.executable, str(HERE / benchmark.program), *words.split()]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])}
    started, day = time.monotonic(), f"{datetime.now(timezone.utc):%Y-%m-%d}"
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
        code, out, errors = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired:
        code, out, errors = 124, "", f"no result within {limit_s:.0f} s"
    facts = _json_in(out)
    said = errors.partition("Exception ignored")[0].strip() or errors.strip()  # what follows is of __del__
    fault = "" if facts is not None else (said.splitlines() or [f"exit code {code}, without a word"])[-1]
    seconds = round(time.monotonic() - started, 1)
    return Result(benchmark.name, shown(benchmark, words), seconds, code, facts, fault[:300], day)


def shown(benchmark: Benchmark, words: str) -> str:
    """Return a benchmark's command as a user types it."""
    return f"python benchmarks/{benchmark.program} {words}"


def _json_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a program printed, whatever it printed before it; None if there is none."""
    start = text.find("{")
    try:
        found = json.loads(text[start:]) if start >= 0 else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def page_of(facts: dict[str, Any]) -> str:
    """Return the table of a benchmarks.json."""
    results = {one["name"]: Result(**one) for one in facts["results"]}
    chosen = [one for one in BENCHMARKS if one.name in results]
    title = f"{TITLE}: too small to mean anything" if facts["tiny"] else TITLE
    return table(title, "make bench", facts["machine"], chosen, [results[one.name] for one in chosen])


def kept(folder: Path, machine: dict[str, Any], tiny: bool) -> dict[str, dict[str, Any]]:
    """Return the results in a folder by name, to add to them. Exit with a message if they are of another machine."""
    path = folder / "benchmarks.json"
    if not path.is_file():
        return {}
    facts = json.loads(path.read_text("utf-8"))
    if differ := [key for key in machine if facts["machine"].get(key) != machine[key]]:
        was, now = ({key: one.get(key) for key in differ} for one in (facts["machine"], machine))
        _refuse(f"{path}: expected figures of this machine, {now}, found {was}; leave out --add to begin again")
    if facts["tiny"] != tiny:
        _refuse(f"{path}: expected figures of the same size; leave out --add to begin again")
    return {one["name"]: one for one in facts["results"]}


def _refuse(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(2)


def write(folder: Path, facts: dict[str, Any]) -> None:
    """Write both files."""
    (folder / "benchmarks.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    (folder / "benchmarks.md").write_text(page_of(facts), "utf-8")


def main() -> int:
    """Run them one after the other, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("armada-bench"))
    parser.add_argument("--only", nargs="+", choices=[one.name for one in BENCHMARKS], metavar="NAME")
    parser.add_argument("--add", action="store_true", help="keep the results of other benchmarks in --out")
    parser.add_argument("--table", action="store_true", help="run nothing; write the table from the JSON in --out")
    parser.add_argument("--tiny", action="store_true", help="only to see that they run: the figures mean nothing")
    options = parser.parse_args()
    if options.table:
        if not (options.out / "benchmarks.json").is_file():
            _refuse(f"{options.out}/benchmarks.json: no such file; `make bench` writes one to armada-bench")
        write(options.out, json.loads((options.out / "benchmarks.json").read_text("utf-8")))
        return 0
    chosen = [one for one in BENCHMARKS if not options.only or one.name in options.only]
    options.out.mkdir(parents=True, exist_ok=True)
    machine = machine_facts()
    results = kept(options.out, machine, options.tiny) if options.add else {}
    for benchmark in chosen:
        print(f"{benchmark.name} ...", file=sys.stderr, flush=True)
        results[benchmark.name] = asdict(run(benchmark, benchmark.tiny if options.tiny else benchmark.small))
        ordered = [results[one.name] for one in BENCHMARKS if one.name in results]
        write(options.out, {"machine": machine, "tiny": options.tiny, "results": ordered})
    print((options.out / "benchmarks.md").read_text("utf-8"))
    failed = [one.name for one in chosen if results[one.name]["facts"] is None]
    if failed:
        print(f"not measured: {', '.join(failed)}; {options.out}/benchmarks.json says why", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
