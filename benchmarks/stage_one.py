"""Stage one compared with its limits: encoding with a bare loop, calls with the ceiling of the server.

    python benchmarks/stage_one.py [--pictures 256] [--repeats 3] [--calls 2048] [--device cpu] [--json]

Exits with code 3 if a bound is missed: encoding at least 0.97 of the bare loop; with a server of 500 ms and 64 calls in
flight at least 0.95 of 128 calls per second, each recorded durably. For a server of 50 ms the rate is only reported,
with those of bare httpx and, if it is installed, aiohttp. 0 pictures or calls skips a part; --device cuda encodes on a
GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

import encoding
import http_calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2048)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    facts: dict[str, Any] = {"cores": os.cpu_count()}
    holds = True
    if options.calls:
        facts["calls"] = http_calls.measure(options.calls)
        holds &= facts["calls"]["500 ms"]["of_ceiling"] >= 0.95
    if options.pictures:
        facts["encoding"] = encoding.measure(options.pictures, options.repeats, options.device)
        holds &= facts["encoding"]["of_bare"] >= 0.97
    facts["bounds_hold"] = holds
    print(json.dumps(facts) if options.json else json.dumps(facts, indent=1))
    sys.exit(0 if holds else 3)


if __name__ == "__main__":
    main()
