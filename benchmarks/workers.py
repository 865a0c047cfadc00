"""How much faster several workers draw than one process: a teacher that keeps a processor busy, and one over HTTP.

    python benchmarks/workers.py [--pictures 100] [--calls 4000] [--rounds 3]

Two workers on two processors are expected to draw at least 1.8 times as many pictures per second as one process, and
four over HTTP at least as many (0.95 times) as one with the same number of calls in flight. Exit code 3 if they don't.
Rates count from the first picture to the last one: starting the processes takes a few seconds once. Ratios are those of
one round, in which one is measured after the other; the medians over the rounds count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from busy_teacher import work
from image_api import image_api

ROOT = Path(__file__).resolve().parents[1]
BUSY = ("--teacher", f"{ROOT}/benchmarks/busy_teacher.py:Busy")
SIZE = ("--encoder", f"{ROOT}/benchmarks/busy_teacher.py:Size")
PICTURE_S, IN_FLIGHT, DELAY_S = 0.15, 64, 0.05


def build(count: int, *words: Any, **variables: str) -> dict[str, Any]:
    """Build `count` pictures by the command line into a new cache, and return the report."""
    home = Path(tempfile.mkdtemp(prefix="armada-bench-"))
    try:
        (home / "prompts.txt").write_text("".join(f"prompt {number}\n" for number in range(count)))
        command = [sys.executable, "-m", "pipelines.cli", "cache", "build", home / "prompts.txt", *words]
        run = subprocess.run(
            list(map(str, [*command, *SIZE, "--cache", home / "cache", "--json"])),
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(home / "state"), **variables},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        report: dict[str, Any] = json.loads(run.stdout)
        assert report["drawn"] == count, report
        return report
    finally:
        shutil.rmtree(home)


def busy_rate(pictures: int, rounds: int, *words: Any) -> float:
    """Return the pictures per second of a teacher that keeps one processor busy."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        teacher = (BUSY[0], f"{BUSY[1]}?rounds={rounds}")
        build(pictures, *teacher, *words, ARMADA_BUSY_LOG=str(log), OMP_NUM_THREADS="1")
        times = sorted(map(float, log.read_text().split()))
    return (len(times) - 1) / (times[-1] - times[0])


def http_rate(calls: int, *words: Any, in_flight: int) -> float:
    """Return the calls per second that a server of 50 ms sees."""
    with image_api(DELAY_S) as api:
        teacher = f"openai:bench?base_url={api.url}&concurrency={in_flight}"
        build(calls, "--teacher", teacher, "--seal-rows", 512, *words)
        return api.rate(calls)


def calibrate() -> int:
    """Return the rounds that take PICTURE_S seconds here."""
    started = time.perf_counter()
    work(1_000_000)
    return int(1_000_000 * PICTURE_S / (time.perf_counter() - started))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = calibrate()
    rates: list[tuple[float, float, float, float]] = []
    for _ in range(options.rounds):
        one, two = busy_rate(options.pictures, rounds), busy_rate(options.pictures, rounds, "--workers", 2)
        single = http_rate(options.calls, in_flight=IN_FLIGHT)
        four = http_rate(options.calls, "--workers", 4, in_flight=IN_FLIGHT // 4)
        rates.append((one, two, single, four))
        print(f"busy {one:.2f}, by two {two:.2f}; HTTP {single:.0f}, by four {four:.0f}", file=sys.stderr)
    of_two, of_four = (median(one[to] / one[to - 1] for one in rates) for to in (1, 3))
    one, two, single, four = (median(rate[place] for rate in rates) for place in range(4))
    facts = {
        "processors": os.cpu_count(),
        "busy teacher, pictures per second": {"one process": round(one, 2), "two workers": round(two, 2)},
        "HTTP, calls per second with 64 in flight": {"one process": round(single, 1), "four workers": round(four, 1)},
        "two workers against one process": round(of_two, 2),
        "four workers against one process": round(of_four, 2),
    }
    print(json.dumps(facts, indent=1))
    if of_two < 1.8 or of_four < 0.95:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
