"""Rows read per second: batches of 1,024 features (512 float16) as torch tensors, globally shuffled.

Our loader, webdataset, MosaicML Streaming, LitData and Hugging Face datasets take turns in one run, one process each.
The limit is torch's index_select on a tensor in memory. Then a larger cache: opening, joining, windows.

    pip install -e '.[benchmarks]' && pip install --no-deps mosaicml-streaming
    python benchmarks/readers.py [--rows 400000] [--large-rows 1000000] [--huge-rows 10000000] [--json]

A slow peer reads only the first --peer-seconds of an epoch. A peer that isn't installed is reported as absent, and its
bounds are not checked. Exits with code 3 if a bound is missed; 0 rows skips a part.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts.reader_contest import compare
from parts.reader_scale import huge, large


def bounds(found: dict[str, Any]) -> dict[str, bool]:
    """Return which bounds hold, of those that were measured."""
    held: dict[str, bool] = {}
    if small := found.get("compared"):
        warm, cold = small["rows_per_second"], small["cold_rows_per_second"]
        for name, times in {"litdata": 20, "mosaicml": 100, "webdataset": 300}.items():
            if name in warm:
                held[f"warm_{times}_times_{name}"] = warm["armada"] >= times * warm[name]
        held["warm_half_of_memory"] = warm["armada"] >= 0.5 * warm["limit"]
        for name in ("armada", "armada_decoded"):
            held[f"cold_{name}_half_of_parquet"] = cold[name] >= 0.5 * cold["parquet"]
    if part := found.get("large"):
        held["cold_open_1.5_times_pyarrow"] = part["cold_seconds"] <= 1.5 * part["plain_seconds"]
        held["warm_open_0.2_s"] = part["warm_seconds"] < 0.2
        held["join_3_s"] = part["join_seconds"] < 3
        held["epoch_memory_flat"] = part["epoch_memory_growth_mb"] < 50
        held["windows_half_of_parquet"] = part["window_rows_per_second"] >= 0.5 * part["window_plain_rows_per_second"]
        beside = 100 * part["rows"]  # bytes for the epoch's order and its bookkeeping
        held["windows_memory"] = part["window_memory_growth_mb"] * 1e6 <= part["window_bytes"] + beside
    if part := found.get("huge"):
        held["huge_warm_open_1_s"] = part["warm_seconds"] < 1
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--large-rows", type=int, default=1_000_000)
    parser.add_argument("--huge-rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-seconds", type=float, default=10.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="armada-bench-"))
    os.environ["XDG_CACHE_HOME"] = str(home / "user")  # for the peers and for us
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "load": [round(os.getloadavg()[0], 2)]}
    try:
        if options.rows:
            found["compared"] = compare(home, options.rows, options.repeats, options.peer_seconds)
        if options.large_rows:
            found["large"] = large(home, options.large_rows, options.repeats)
        if options.huge_rows:
            found["huge"] = huge(home, options.huge_rows)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    found["load"].append(round(os.getloadavg()[0], 2))
    found["bounds"] = bounds(found)
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    sys.exit(0 if all(found["bounds"].values()) else 3)


def show(found: dict[str, Any], indent: str = "") -> None:
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        else:
            print(f"{indent}{name!s:28} {value:>14,}" if isinstance(value, int | float) else f"{indent}{name}: {value}")


if __name__ == "__main__":
    main()
