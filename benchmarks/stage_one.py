"""Stage one compared with its limits: encoding with a bare loop, calls with the ceiling of the server.

    python benchmarks/stage_one.py [--pictures 256] [--repeats 3] [--calls 2048] [--rounds 5] [--device cpu] [--json]

Exits with code 3 if a bound is missed: encoding at least 0.97 of the bare loop; 64 calls in flight, each recorded
durably, at least 0.98 of the ceiling of 128 per second with a server of 500 ms, and with one of 50 ms at least 0.9 of
the fastest bare client (the median of the rounds). On a GPU (--device cuda): a diffusers pipeline keeps the device busy
for at least 0.98 of the share of a bare loop, with a timeline of the device. 0 pictures or calls skips a part.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from parts import http_calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    facts: dict[str, Any] = {"cores": os.cpu_count()}
    holds = True
    if options.calls:
        calls = facts["calls"] = http_calls.measure(options.calls, options.rounds)
        holds &= calls["500 ms"]["of_ceiling"] >= 0.98 and calls["50 ms"]["of_fastest_bare"] >= 0.9
    if options.pictures:
        from parts import encoding

        facts["encoding"] = encoding.measure(options.pictures, options.repeats, options.device)
        holds &= facts["encoding"]["of_bare"] >= 0.97
    if options.pictures and options.device.startswith("cuda"):
        from parts import device_timeline

        facts["diffusers"] = device_timeline.measure(options.pictures, options.repeats, options.device)
        holds &= facts["diffusers"]["of_bare"] >= 0.98
    facts["bounds_hold"] = holds
    print(json.dumps(facts) if options.json else json.dumps(facts, indent=1))
    sys.exit(0 if holds else 3)


if __name__ == "__main__":
    main()
