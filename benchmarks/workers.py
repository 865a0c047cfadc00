"""How much faster several workers draw than one process: a teacher that keeps a processor busy, and one over HTTP.

    python benchmarks/workers.py [--pictures 100] [--calls 2000] [--rounds 3]

Two workers on two processors are expected to draw at least 1.8 times as many pictures per second as one process, and
four over HTTP at least as many (0.95 times) as one with the same number of calls in flight, from a server that takes
500 ms per picture. Exit code 3 if they don't. A server of 50 ms is measured too, without a bound: one process then
keeps a processor busy, and four of them, which commit and seal each for itself, share the processors with the server.
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

from parts.busy_teacher import work
from parts.image_api import image_api

ROOT = Path(__file__).resolve().parents[1]
BUSY = ("--teacher", f"{ROOT}/benchmarks/parts/busy_teacher.py:Busy")
SIZE = ("--encoder", f"{ROOT}/benchmarks/parts/busy_teacher.py:Size")
PICTURE_S, IN_FLIGHT, SLOW_S, FAST_S = 0.15, 64, 0.5, 0.05


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


def http_rates(calls: int, delay_s: float) -> tuple[float, float]:
    """Return the calls per second that a server sees, of one process and of four workers, with as many in flight."""
    rates = []
    with image_api(delay_s) as api:
        for words, in_flight in (((), IN_FLIGHT), (("--workers", 4), IN_FLIGHT // 4)):
            teacher = f"openai:bench?base_url={api.url}&concurrency={in_flight}"
            build(calls, "--teacher", teacher, "--seal-rows", 512, *words)
            rates.append(api.rate(calls))
    return rates[0], rates[1]


def calibrate() -> int:
    """Return the rounds that take PICTURE_S seconds here."""
    started = time.perf_counter()
    work(1_000_000)
    return int(1_000_000 * PICTURE_S / (time.perf_counter() - started))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = calibrate()
    busy, slow, fast = [], [], []  # of one process, and of the workers
    for _ in range(options.rounds):
        busy.append((busy_rate(options.pictures, rounds), busy_rate(options.pictures, rounds, "--workers", 2)))
        slow.append(http_rates(options.calls, SLOW_S))
        fast.append(http_rates(2 * options.calls, FAST_S))
        print(f"busy {busy[-1]}, HTTP of 500 ms {slow[-1]}, of 50 ms {fast[-1]}", file=sys.stderr)
    facts = {
        "processors": os.cpu_count(),
        "busy teacher, pictures per second": _medians(busy, "two workers"),
        "HTTP, calls per second with 64 in flight, 500 ms": _medians(slow, "four workers"),
        "HTTP, calls per second with 64 in flight, 50 ms": _medians(fast, "four workers"),
        "two workers against one process": _ratio(busy),
        "four workers against one process": _ratio(slow),
        "four workers against one process, 50 ms": _ratio(fast),
    }
    print(json.dumps(facts, indent=1))
    if _ratio(busy) < 1.8 or _ratio(slow) < 0.95:
        raise SystemExit(3)


def _medians(rates: list[tuple[float, float]], workers: str) -> dict[str, float]:
    one, several = (round(median(rate[place] for rate in rates), 2) for place in (0, 1))
    return {"one process": one, workers: several}


def _ratio(rates: list[tuple[float, float]]) -> float:
    return round(median(several / one for one, several in rates), 2)


if __name__ == "__main__":
    main()
