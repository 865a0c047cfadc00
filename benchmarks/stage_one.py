"""Stage one beside its limits: pictures encoded a second beside the bare loop, calls beside the server's ceiling.

    python benchmarks/stage_one.py [--pictures 256] [--repeats 3] [--calls 2048] [--device cpu] [--json]

Exit code 3 where a bound is missed: encoding at least 0.97 of the bare loop; 64 calls in flight against a server of
500 ms at least 0.95 of 128 a second, each journalled durably. Against a server of 50 ms the figure is reported, beside
bare httpx and, where it is installed, aiohttp. 0 pictures or calls leave a part out; --device cuda encodes on a GPU.
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
