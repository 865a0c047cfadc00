"""Stage one and the reader at growing sizes: whether time grows in proportion, and memory stays bounded.

    python benchmarks/scale.py [--rows 100000 1000000 10000000] [--json]

Synthetic rows of 256 float16 are planned, written by four workers, merged, compacted, verified, pushed, pulled, opened,
and read for one epoch in random order. Each step runs in a process of its own, whose time and peak of anonymous memory
(files that it maps don't count) are measured, without its imports; of several workers, from the beginning of the first
to the end of the last one, and the sum of memory. Growth exponents are taken between each size and the next, of steps
that take a second. Exit code 3 if one is above 1.1, or a step has more anonymous memory than 2 GiB.

Steps begin alike at each size. Before each, all files are synced to the disk and dropped from memory: otherwise a step
finds small files in memory and large ones not, and waits for what the one before has not written yet. The epoch too
reads the decoded matrix from the disk, as the first epoch of a morning does.

There are no pictures, only features. 10 million rows take 18 GB of disk; 5 GB of memory hold the matrix.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cache_write import TEACHER, encoder_named, synthetic_rows
from parts.reader_cache import evict

from distill import Loader
from teacher_cache import (
    Cache,
    ChosenRows,
    Provenance,
    commit_features,
    compact,
    make_plan,
    make_requests,
    merge,
    open_features,
    pull,
    push,
    verify,
)

DIMENSION, SHARD_ROWS, WRITERS, BATCH = 256, 8192, 4, 1024
ENCODER = encoder_named("scale", DIMENSION)
MOST_EXPONENT, MOST_GIB = 1.1, 2.0
STEPS = ("plan", "write", "merge", "compact", "verify", "push", "pull", "open", "epoch")
DONE_WITH = {"merge": "worker-*", "pull": "bucket"}  # folders that no step after it reads


def plan(home: Path, rows: int) -> None:
    """Plan all rows against an empty cache."""
    cache = Cache(str(home / "empty"), create=True)
    requests = make_requests(TEACHER, (f"a picture of the number {row}" for row in range(rows)))
    assert make_plan(cache, TEACHER, ENCODER, requests).calls == rows


def write(home: Path, rows: int, worker: int) -> None:
    """Write a worker's quarter of the rows into a cache of its own."""
    cache = Cache(str(home / f"worker-{worker}"), create=True)
    cache.register(TEACHER, ENCODER)
    generator = np.random.default_rng(worker)
    stop = rows * (worker + 1) // WRITERS
    for start in range(rows * worker // WRITERS, stop, SHARD_ROWS // 4):
        part = synthetic_rows(start, min(start + SHARD_ROWS // 4, stop))
        vectors = generator.standard_normal((part.num_rows, DIMENSION), np.float32)
        commit_features(cache, TEACHER, ENCODER, part, vectors, Provenance(time.time))


def open_cache(home: Path, rows: int) -> Any:
    features = open_features(Cache(str(home / "pulled")), TEACHER, ENCODER)
    assert len(features) == rows
    return features


def read_epoch(home: Path, rows: int) -> None:
    features = open_cache(home, rows)
    loader = Loader(ChosenRows(features.rows, np.arange(rows)), "scale", BATCH)
    assert sum(len(batch.rows) for batch in loader) == rows


def run_step(name: str, home: Path, rows: int, worker: int) -> None:
    merged = str(home / "merged")
    workers = [Cache(str(home / f"worker-{number}")) for number in range(WRITERS)] if name == "merge" else []
    steps: dict[str, Callable[[], Any]] = {
        "plan": lambda: plan(home, rows),
        "write": lambda: write(home, rows, worker),
        "merge": lambda: merge(workers, Cache(merged, create=True)),
        "compact": lambda: compact(Cache(merged), vacuum=True, retain_hours=0),
        "verify": lambda: verify(merged),
        "push": lambda: push(merged, f"file://{home}/bucket"),
        "pull": lambda: pull(f"file://{home}/bucket", str(home / "pulled")),
        "open": lambda: open_cache(home, rows),
        "epoch": lambda: read_epoch(home, rows),
    }
    peak, done = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(peak, done))
    watcher.start()
    started = time.monotonic()  # the same for all processes of this machine
    steps[name]()
    ended = time.monotonic()
    done.set()
    watcher.join()
    print(json.dumps({"started": started, "ended": ended, "gib": peak[0]}))


def _watch(peak: list[float], done: threading.Event) -> None:
    while True:
        status = Path("/proc/self/status").read_text()
        kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
        peak[0] = max(peak[0], kib / (1 << 20))
        if done.wait(0.05):
            return


def measure(step: str, home: Path, rows: int) -> dict[str, float]:
    """Run a step in processes of its own; return its seconds, GiB of anonymous memory and rows per second."""
    evict(home)
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--step", step, "--home", home, "--worker", str(worker), "--rows", str(rows)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(home / "user"), "XDG_STATE_HOME": str(home / "user")},
        )
        for worker in range(WRITERS if step == "write" else 1)
    ]
    answers = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, answers, strict=True):
        assert process.returncode == 0, errors
    facts = [json.loads(out.splitlines()[-1]) for out, _ in answers]
    seconds = max(fact["ended"] for fact in facts) - min(fact["started"] for fact in facts)
    gib = sum(fact["gib"] for fact in facts)
    return {"seconds": round(seconds, 2), "gib": round(gib, 2), "rows_per_s": round(rows / seconds)}


def sizes(home: Path) -> dict[str, int]:
    """Return the bytes and the numbers of files of the merged cache, by kind."""
    files = [path for path in (home / "merged").rglob("*") if path.is_file()]
    shards = [path for path in files if path.suffix == ".parquet"]
    commits = [path for path in files if path.parent.name == "commits"]
    return {
        "feature_shards": len(shards),
        "feature_bytes": sum(path.stat().st_size for path in shards),
        "commits": len(commits),
        "commit_bytes": sum(path.stat().st_size for path in commits),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, default=None, help="where to work; by default a temporary folder")
    parser.add_argument("--worker", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.home, options.rows[0], options.worker)
        return
    found: dict[str, dict[str, Any]] = {}
    for rows in sorted(options.rows):
        home = Path(tempfile.mkdtemp(prefix="armada-scale-", dir=options.home))
        try:
            found[str(rows)] = {}
            for step in STEPS:
                found[str(rows)][step] = measure(step, home, rows)
                for folder in home.glob(DONE_WITH[step]) if step in DONE_WITH else ():
                    shutil.rmtree(folder)
            found[str(rows)]["files"] = sizes(home)
        finally:
            shutil.rmtree(home)
    rows = sorted(set(options.rows))
    exponents = {
        f"{low} to {high}": {step: _exponent(found, step, low, high) for step in STEPS}
        for low, high in itertools.pairwise(rows)
    }
    facts = {"measured": found, "growth_exponents": exponents}
    print(json.dumps(facts) if options.json else json.dumps(facts, indent=1))
    worst = max((found[str(rows)][step]["gib"] for rows in options.rows for step in STEPS), default=0)
    growth = max((one or 0 for of_pair in exponents.values() for one in of_pair.values()), default=0)
    if worst > MOST_GIB or growth > MOST_EXPONENT:
        raise SystemExit(3)


def _exponent(found: dict[str, dict[str, Any]], step: str, low: int, high: int) -> float | None:
    """Return by which power of the rows a step's time grows; None if it takes no second, so that it is mostly noise."""
    before, after = (found[str(rows)][step]["seconds"] for rows in (low, high))
    return round(math.log(after / max(before, 1e-9)) / math.log(high / low), 2) if after >= 1 else None


if __name__ == "__main__":
    main()
