"""All that needs a GPU, in under ten minutes: the tests marked gpu, training steps, encoding, and diffusers' idle time.

    python benchmarks/gpu.py [--out armada-gpu]

Writes DIR/gpu.md and DIR/gpu.json with the machine. Exit code 69 without a GPU that torch can use, 1 if a test failed
or a part could not be run, and 3 if a bound was missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from all import HERE, run
from parts.machine import machine_facts
from parts.sizes import PROCESSOR, Benchmark, Figure, train_step
from parts.table import Result, table

TOTAL_S = 590.0
TESTS_S = 200.0
NO_GPU = 69  # as sysexits' EX_UNAVAILABLE

STAGE_ONE = (
    Figure("the whole encoding pipeline, open_clip ViT-B-32", ("encoding", "of_bare"), "{:.2f} of a bare loop"),
    Figure("pictures encoded", ("encoding", "pictures_per_second", "armada"), "{:,.0f} per second", PROCESSOR),
    Figure("time in which the GPU draws, diffusers, 512 x 512, 8 at once", ("diffusers", "busy"), "{:.3f}"),
    Figure("the same beside a loop that keeps nothing", ("diffusers", "of_bare"), "{:.3f}"),
)
PARTS = (
    train_step("train_step, MiniLM", "no", "--rounds 12 --students minilm --batches 8 32"),
    train_step("train_step, MiniLM, bfloat16", "bf16", "--rounds 12 --students minilm --batches 8 32"),
    train_step("train_step, BERT of 6 layers, bfloat16", "bf16", "--rounds 12 --students bert6 --batches 32"),
    Benchmark("stage_one", "stage_one.py", "--calls 0 --pictures 256 --repeats 3 --device cuda --json", "", STAGE_ONE),
)


def absent_gpu() -> str:
    """Return why there is no GPU to run on, "" if there is one."""
    import torch

    if torch.cuda.is_available():
        return ""
    built = torch.version.cuda or torch.version.hip
    why = f"built for {built}, which finds none here" if built else "built without CUDA and ROCm"
    return (
        f"no GPU: expected one that torch {torch.__version__} can use, found a torch {why}. Nothing was run. "
        "`armada doctor` shows the devices; `make test` and `make bench` need no GPU."
    )


def run_tests(limit_s: float) -> dict[str, Any]:
    """Run the tests that are marked gpu; return their exit code and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/gpu"]
    started = time.monotonic()
    try:
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=limit_s, check=False)
        code, lines = done.returncode, done.stdout.strip().splitlines()
    except subprocess.TimeoutExpired:
        code, lines = 124, [f"not done within {limit_s:.0f} s"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"code": code, "seconds": round(time.monotonic() - started, 1), "said": lines[-1:], "failed": failed}


def code_of(tests: dict[str, Any], results: list[Result]) -> int:
    """Return the exit code: 1 if something failed, 3 if only a bound was missed."""
    if tests["code"] or any(one.facts is None for one in results):
        return 1
    return 3 if any(one.code for one in results) else 0


def main() -> int:
    """Run everything, and write what was found after each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("armada-gpu"))
    options = parser.parse_args()
    if fault := absent_gpu():
        print(fault, file=sys.stderr)
        return NO_GPU
    options.out.mkdir(parents=True, exist_ok=True)
    end, machine = time.monotonic() + TOTAL_S, machine_facts()
    print("tests marked gpu ...", file=sys.stderr, flush=True)
    tests = run_tests(TESTS_S)
    results: list[Result] = []
    for part in PARTS:
        print(f"{part.name} ...", file=sys.stderr, flush=True)
        results.append(run(part, part.small, limit_s=max(1.0, end - time.monotonic())))
        facts = {"machine": machine, "tests": tests, "results": [asdict(one) for one in results]}
        (options.out / "gpu.json").write_text(json.dumps(facts, indent=1), "utf-8")
        told = "\n".join([f"Tests marked gpu, {tests['seconds']:.0f} s: {' '.join(tests['said'])}", *tests["failed"]])
        found = table("What a GPU does", "make gpu", machine, PARTS[: len(results)], results)
        (options.out / "gpu.md").write_text(f"{found}\n{told}\n", "utf-8")
    print((options.out / "gpu.md").read_text("utf-8"))
    return code_of(tests, results)


if __name__ == "__main__":
    raise SystemExit(main())
