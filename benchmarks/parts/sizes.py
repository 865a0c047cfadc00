"""What `make bench` runs: each benchmark with its arguments by size, and the figures to take from its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Path = tuple[Any, ...]  # the keys and places that lead to a value in a benchmark's JSON
RATIO, PROCESSOR, DISK, BF16 = "a ratio", "processor", "processor, disk", "processor, bfloat16"


@dataclass(frozen=True)
class Figure:
    """A figure: what it is, where its value is, its unit, and what it depends on. `{}` in `text` is the value, and
    `{name}` in `claim` is a fact of the JSON."""

    claim: str
    place: Path
    text: str = "{}"
    depends: str = RATIO


@dataclass(frozen=True)
class Benchmark:
    """A benchmark program with its arguments. `note` says what its figures depend on besides the machine's speed."""

    name: str
    program: str
    small: str
    tiny: str
    figures: tuple[Figure, ...]
    note: str = ""


def train_step(name: str, precision: str, words: str, note: str = "") -> Benchmark:
    """Return train_step.py with its first ratios, of the largest batch."""
    of_ratio, of_time = (BF16, BF16) if precision == "bf16" else (RATIO, PROCESSOR)

    def ratio(claim: str, which: str) -> Figure:
        place = ("results", -1, "ratios", f"{which}/trainer", "median")
        return Figure(f"{name}: {claim}", place, "{:.3f} of a step of transformers' Trainer", of_ratio)

    return Benchmark(
        name,
        "train_step.py",
        f"{words} --precision {precision} --json",
        f"--rounds 2 --students minilm --batches 2 --precision {precision} --json",
        (
            ratio("a distilled epoch from the cache", "epoch"),
            ratio("the same with crossfit", "crossfit_epoch"),
            ratio("a first run, with the training of its aligner", "first_run"),
            Figure(f"{name}: a distilled step", ("results", -1, "step_ms", "distilled"), "{:.0f} ms", of_time),
        ),
        note,
    )


BENCHMARKS = (
    Benchmark(
        "cache_write",
        "cache_write.py",
        "--rows 50000 --plan-rows 200000 --repeats 3 --json",
        "--rows 500 --plan-rows 2000 --repeats 1 --json",
        (
            Figure(
                "writing {rows:,} features: sorted, checked, synced and committed",
                ("of_pyarrow",),
                "{:.2f} of plain pyarrow",
            ),
            Figure("the same, beside webdataset's ShardWriter", ("times_webdataset",), "{:.0f} times"),
            Figure(
                "planning {plan_rows:,} prompts against a cache of as many", ("plan_seconds",), "{:.1f} s", PROCESSOR
            ),
        ),
    ),
    Benchmark(
        "commits",
        "commits.py",
        "--commits 2000 --shards 800 --json",
        "--commits 60 --shards 30 --json",
        (
            Figure(
                "opening a cache with {commits:,} commits and {shards:,} shards",
                ("seconds",),
                "{:.2f} s of processor time",
                PROCESSOR,
            ),
        ),
    ),
    Benchmark(
        "stage_one",
        "stage_one.py",
        "--pictures 32 --repeats 2 --calls 512 --rounds 2 --json",
        "--pictures 8 --repeats 1 --calls 64 --rounds 1 --json",
        (
            Figure(
                "64 calls in flight, 500 ms each, recorded durably",
                ("calls", "500 ms", "of_ceiling"),
                "{:.3f} of the ceiling",
            ),
            Figure("the same, 50 ms each", ("calls", "50 ms", "of_fastest_bare"), "{:.2f} of the fastest bare client"),
            Figure("the whole encoding pipeline, open_clip ViT-B-32", ("encoding", "of_bare"), "{:.2f} of a bare loop"),
            Figure(
                "pictures of 512 x 512 encoded by it",
                ("encoding", "pictures_per_second", "armada"),
                "{:.1f} per second",
                PROCESSOR,
            ),
        ),
    ),
    train_step("train_step, MiniLM, batch 32", "no", "--rounds 6 --students minilm --batches 32"),
    train_step(
        "train_step, MiniLM, batch 32, bfloat16",
        "bf16",
        "--rounds 6 --students minilm --batches 32",
        "its speed is the processor's: compare the step with the one in float32 above, on this machine only",
    ),
    Benchmark(
        "readers",
        "readers.py",
        "--rows 100000 --large-rows 200000 --huge-rows 0 --repeats 2 --peer-seconds 2 --json",
        "--rows 3000 --large-rows 3000 --huge-rows 0 --repeats 1 --peer-seconds 0.2 --json",
        (
            Figure(
                "reading {compared[rows]:,} rows in shuffled batches of 1,024, every row checked",
                ("compared", "rows_per_second", "armada"),
                "{:,.0f} rows/s",
                PROCESSOR,
            ),
            Figure(
                "the same rows gathered in RAM", ("compared", "rows_per_second", "limit"), "{:,.0f} rows/s", PROCESSOR
            ),
            Figure(
                "the first epoch with a cold page cache",
                ("compared", "cold_rows_per_second", "armada"),
                "{:,.0f} rows/s",
                DISK,
            ),
            Figure(
                "plain sequential Parquet, cold",
                ("compared", "cold_rows_per_second", "parquet"),
                "{:,.0f} rows/s",
                DISK,
            ),
            Figure("joining {large[rows]:,} rows by their text", ("large", "join_seconds"), "{:.2f} s", PROCESSOR),
            Figure("opening them again", ("large", "warm_seconds"), "{:.3f} s", PROCESSOR),
        ),
        "of the peers only those that are installed take part",
    ),
    Benchmark(
        "push",
        "push.py",
        "--shards 100 --bytes 200000000 --repeats 1 --json",
        "--shards 3 --bytes 30000 --repeats 1 --json",
        (
            Figure(
                "push of {shards} shards to a local S3 server, {bytes:,} bytes",
                ("seconds", "push", "armada"),
                "{:.2f} s",
                DISK,
            ),
            Figure("pull of the same", ("seconds", "pull", "armada"), "{:.2f} s", DISK),
            Figure(
                "push beside the fastest of s5cmd, aws and rclone", ("of_the_fastest", "push"), "{:.2f} of the fastest"
            ),
            Figure("pull beside them", ("of_the_fastest", "pull"), "{:.2f} of the fastest"),
        ),
        "of the other programs only those that are installed take part",
    ),
    Benchmark(
        "browse",
        "browse.py",
        "--pictures 1000 --repeats 3 --json",
        "--pictures 20 --repeats 1 --json",
        (
            Figure(
                "the first page of a gallery of {pictures:,} pictures, the worst try",
                ("served", "first_page_s", "worst"),
                "{:.2f} s",
                PROCESSOR,
            ),
            Figure("a search in it, the worst try", ("served", "search_s", "worst"), "{:.2f} s", PROCESSOR),
        ),
        "needs a Chromium",
    ),
    Benchmark(
        "workers",
        "workers.py",
        "--pictures 60 --calls 1000",
        "--pictures 4 --calls 40",
        (
            Figure(
                "two workers beside one process, a busy teacher", ("two workers against one process",), "{:.2f} times"
            ),
            Figure("four workers beside one process, over HTTP", ("four workers against one process",), "{:.2f} times"),
        ),
    ),
    Benchmark(
        "scale",
        "scale.py",
        "--rows 20000 100000 --json",
        "--rows 300 --json",
        (
            Figure(
                "rows written by four processes into one cache",
                ("measured", -1, "write", "rows_per_s"),
                "{:,.0f} rows/s",
                DISK,
            ),
        ),
    ),
)


def found_at(facts: Any, place: Path) -> Any:
    """Return the value at a place in a benchmark's JSON, None if there is none. -1 is the last part of an object."""
    for key in place:
        if isinstance(facts, dict) and key == -1 and facts:
            facts = list(facts.values())[-1]
        elif (isinstance(facts, dict) and key in facts) or (
            isinstance(facts, list) and isinstance(key, int) and -len(facts) <= key < len(facts)
        ):
            facts = facts[key]
        else:
            return None
    return facts
