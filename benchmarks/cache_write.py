"""Features written in rows per second, and planning against a large cache.

Three writers take turns in one run: our shards (sorted, checked, digested, synced and committed), plain pyarrow writing
the same table, and webdataset's ShardWriter writing the same rows.

    python benchmarks/cache_write.py [--rows 100000] [--plan-rows 1000000] [--huge] [--json]

Exits with code 3 if a bound is missed: 0.5 of plain pyarrow, 20 times ShardWriter, planning under 5 s, 1 GB of memory.
`--huge` plans ten times as many rows too (2 minutes to prepare, 3 GB of disk): in 2 GiB, and 15 times the time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from teacher_cache import (
    IMAGE_COLUMNS,
    Cache,
    Plan,
    Provenance,
    Source,
    commit_features,
    compact,
    feature_column,
    feature_schema,
    image_key,
    index_rows,
    make_plan,
    make_requests,
    missing_features,
    prompt_key,
    sha256,
    spec_digest,
)

DIMENSION, SHARD_ROWS = 512, 8192
TEACHER_SPEC = {"kind": "bench"}
TEACHER = Source(TEACHER_SPEC, spec_digest(TEACHER_SPEC), {"licence": "CC0"})


def encoder_named(kind: str, dimension: int = DIMENSION) -> Source:
    spec = {"kind": kind, "dimension": dimension, "dtype": "float16"}
    return Source(spec, spec_digest(spec))


ENCODER, SMALL_ENCODER = encoder_named("bench-encoder"), encoder_named("small", 2)


def synthetic_rows(start: int, stop: int) -> pa.Table:
    """Return index rows of pictures that don't exist, sorted by key."""
    prompts = [f"a picture of the number {row}" for row in range(start, stop)]
    digests = [prompt_key(prompt) for prompt in prompts]
    keys = [image_key(TEACHER.digest, digest) for digest in digests]
    columns: dict[str, list[Any]] = {name: [None] * len(keys) for name in IMAGE_COLUMNS.names}
    columns |= {"image_key": keys, "prompt_key": digests, "prompt": prompts, "image_sha256": digests}
    columns |= {"sample": [0] * len(keys), "suffix": ["png"] * len(keys), "seconds": [0.5] * len(keys)}
    columns |= {"offset": [0] * len(keys), "bytes": [0] * len(keys), "attempts": [1] * len(keys)}
    return pa.table(columns, schema=IMAGE_COLUMNS).sort_by("image_key")


def write_ours(folder: Path, rows: list[pa.Table], features: list[np.ndarray]) -> None:
    cache = Cache(str(folder), create=True)
    cache.register(TEACHER, ENCODER)
    for part, vectors in zip(rows, features, strict=True):
        commit_features(cache, TEACHER, ENCODER, part, vectors, Provenance(time.time))


def write_pyarrow(folder: Path, rows: list[pa.Table], features: list[np.ndarray]) -> None:
    folder.mkdir()
    schema = feature_schema(DIMENSION, "float16", {})
    for number, (part, vectors) in enumerate(zip(rows, features, strict=True)):
        columns = [part[name].combine_chunks() for name in ("image_key", "image_sha256", "prompt_key", "sample")]
        table = pa.table([*columns, feature_column(vectors.astype(np.float16))], schema=schema)
        parquet.write_table(table, folder / f"{number}.parquet")


def write_webdataset(folder: Path, rows: list[pa.Table], features: list[np.ndarray]) -> None:
    import webdataset

    folder.mkdir()
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=SHARD_ROWS, verbose=0) as writer:
        for part, vectors in zip(rows, features, strict=True):
            facts = part.select(["image_key", "image_sha256", "prompt_key"]).to_pylist()
            for row, vector in zip(facts, vectors.astype(np.float16), strict=True):
                writer.write({"__key__": row["image_key"], "npy": vector, "json": row})


def seconds_of(write: Callable[..., None], home: Path, rows: list[pa.Table], features: list[np.ndarray]) -> float:
    folder = home / "out"
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    write(folder, rows, features)
    return time.perf_counter() - started


def write_rates(home: Path, count: int, repeats: int) -> dict[str, float]:
    """Return the median rows per second of each writer; they take turns."""
    starts = range(0, count, SHARD_ROWS)
    rows = [synthetic_rows(start, min(start + SHARD_ROWS, count)) for start in starts]
    generator = np.random.default_rng(0)
    features = [generator.normal(size=(part.num_rows, DIMENSION)).astype(np.float32) for part in rows]
    writers = {"armada": write_ours, "pyarrow": write_pyarrow}
    taken: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(repeats):
        for name, write in writers.items():
            taken[name].append(seconds_of(write, home, rows, features))
    rates = {name: count / median(seconds) for name, seconds in taken.items()}
    few = max(1, len(rows) // 10)
    rates["webdataset"] = sum(part.num_rows for part in rows[:few]) / seconds_of(
        write_webdataset, home, rows[:few], features[:few]
    )
    return rates


def commit_index(cache: Cache, part: pa.Table, number: int) -> None:
    """Commit the index of pictures; its tar is a dummy, named by a number."""
    with cache.store.draft() as draft:
        draft.write_bytes(sha256(str(number).encode()).encode())
        tar = cache.add(draft, f"images/{TEACHER.name}/shards", ".tar", part.num_rows)
    index = cache.write_shard(f"images/{TEACHER.name}/indexes", part)
    cache.commit([replace(tar, index=index)], **Provenance(time.time).now())


def synthetic_cache(home: Path, count: int, shard_rows: int, encoder: Source) -> Cache:
    """Return a new cache of `count` feature rows and of the index rows of their pictures."""
    cache = Cache(str(home / "large"), create=True)
    cache.register(TEACHER, encoder)
    generator = np.random.default_rng(0)
    provenance = Provenance(time.time)
    for start in range(0, count, shard_rows):
        part = synthetic_rows(start, min(start + shard_rows, count))
        commit_index(cache, part, start)
        vectors = generator.normal(size=(part.num_rows, encoder.spec["dimension"])).astype(np.float32)
        commit_features(cache, TEACHER, encoder, part, vectors, provenance)
    return cache


def timed_plan(cache: Cache, count: int, encoder: Source) -> tuple[Plan, float]:
    """Return the plan for `count` prompts that the cache has, and the seconds that it took."""
    prompts = (f"a picture of the number {row}" for row in range(count))
    started = time.perf_counter()
    plan = make_plan(cache, TEACHER, encoder, make_requests(TEACHER, prompts))
    seconds = time.perf_counter() - started
    assert (plan.calls, plan.features_at_hand) == (0, count)
    return plan, seconds


def peak_memory_mb() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plan_and_compact(home: Path, count: int, results: Any) -> None:
    """Build a cache of `count` feature rows, plan against it and compact it.

    Runs in a process of its own, whose peak memory is one of the `results`.
    """
    cache = synthetic_cache(home, count, SHARD_ROWS // 4, ENCODER)
    plan, results["plan_seconds"] = timed_plan(cache, count, ENCODER)
    missing = missing_features(cache, TEACHER, encoder_named("another"), plan.requests.index)
    assert sum(part.num_rows for part in index_rows(cache, missing, SHARD_ROWS)) == count
    del plan, missing
    for shard in cache.shards("images/"):  # these pictures have no bytes to copy
        cache.store.remove(shard.path)
    started = time.perf_counter()
    compact(cache)
    results["compact_rows_per_second"] = count / (time.perf_counter() - started)
    results["peak_memory_mb"] = peak_memory_mb()


def prepare_huge(home: Path, count: int, _: Any) -> None:
    """Build a cache of `count` small feature rows."""
    synthetic_cache(home, count, 4 * SHARD_ROWS, SMALL_ENCODER)


def plan_huge(home: Path, count: int, results: Any) -> None:
    """Plan against the cache of `prepare_huge`, in a process that does nothing else."""
    _, results["huge_plan_seconds"] = timed_plan(Cache(str(home / "large")), count, SMALL_ENCODER)
    results["huge_peak_memory_mb"] = peak_memory_mb()


def in_own_process(work: Callable[..., None], *arguments: Any) -> dict[str, float]:
    """Run `work(*arguments, results)` in a new process and return the results."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        shared = manager.dict()
        process = context.Process(target=work, args=(*arguments, shared))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{work.__name__} failed with exit code {process.exitcode}")
        return dict(shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--plan-rows", type=int, default=1_000_000)
    parser.add_argument("--huge", action="store_true", help="plan ten times --plan-rows as well")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="armada-bench-"))
    try:
        rates = write_rates(home, options.rows, options.repeats)
        large = in_own_process(plan_and_compact, home, options.plan_rows)
        if options.huge:
            shutil.rmtree(home / "large")
            in_own_process(prepare_huge, home, 10 * options.plan_rows)
            large |= in_own_process(plan_huge, home, 10 * options.plan_rows)
    finally:
        shutil.rmtree(home)
    facts = {
        "rows": options.rows,
        "plan_rows": options.plan_rows,
        "rows_per_second": {name: round(rate) for name, rate in rates.items()},
        "of_pyarrow": round(rates["armada"] / rates["pyarrow"], 2),
        "times_webdataset": round(rates["armada"] / rates["webdataset"], 1),
        **{name: round(value, 1) for name, value in large.items()},
    }
    facts["bounds_hold"] = (
        facts["of_pyarrow"] >= 0.5
        and facts["times_webdataset"] >= 20
        and facts["plan_seconds"] < 5
        and facts["peak_memory_mb"] < 1024
        and facts.get("huge_peak_memory_mb", 0) < 2048
        and facts.get("huge_plan_seconds", 0) <= 15 * facts["plan_seconds"]
    )
    print(json.dumps(facts) if options.json else "\n".join(f"{name:20} {value}" for name, value in facts.items()))
    sys.exit(0 if facts["bounds_hold"] else 3)


if __name__ == "__main__":
    main()
