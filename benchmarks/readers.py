"""Rows read, a second: batches of 1,024 features (512 float16) to torch, globally shuffled, one process: ours beside
webdataset, MosaicML Streaming, LitData and Hugging Face datasets, all in turn in one run; torch's index_select on a
tensor in memory is the limit. Then a larger cache: opening, joining, windows.

    pip install -e '.[benchmarks]' && pip install --no-deps mosaicml-streaming
    python benchmarks/readers.py [--rows 400000] [--large-rows 1000000] [--huge-rows 10000000] [--json]

A slow peer reads for --peer-seconds of an epoch. A peer that isn't installed is reported as absent, and its bounds are
not judged. Exit code 3 where a bound is missed; 0 rows leaves a part out.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import torch
from cache_write import DIMENSION, ENCODER, SHARD_ROWS, TEACHER, index_rows
from reader_peers import PEERS

from distill.loader import Loader
from distill.windows import autocorrelation
from teacher_cache import Cache, ChosenRows, Features, open_features
from teacher_cache.commits import index_path
from teacher_cache.encode import commit_features
from teacher_cache.keys import sha256, spec_digest
from teacher_cache.shards import feature_matrix
from teacher_cache.signature import Signature
from teacher_cache.sources import Source

BATCH = 1024
NARROW = 16  # numbers a feature of the huge cache, whose opening is measured and not its features
Epoch = Callable[[int], Iterator[Any]]  # the batches of epoch e


def write_cache(folder: Path, rows: int) -> np.ndarray:
    """A cache of pictures' indexes and features as a build leaves it. Returns the features (rows, L), by number."""
    cache = Cache(str(folder), create=True)
    cache.register(TEACHER, ENCODER)
    everything = np.empty((rows, DIMENSION), np.float16)
    generator = np.random.default_rng(0)
    for start in range(0, rows, SHARD_ROWS):
        part = index_rows(start, min(start + SHARD_ROWS, rows))
        features = generator.standard_normal((part.num_rows, DIMENSION), np.float32)
        everything[start : start + part.num_rows] = features
        commit_index(cache, part, start)
        commit_features(cache, TEACHER, ENCODER, part, features, Signature(time.time))
    return everything


def commit_index(cache: Cache, part: pa.Table, number: int) -> None:
    """The pictures' index; the tar beside it is made up."""
    with cache.store.draft() as draft:
        draft.write_bytes(sha256(str(number).encode()).encode())
        tar = cache.add(draft, f"images/{TEACHER.name}/shards", ".tar", part.num_rows)
    written = cache.write_shard("", part, index_path(tar.path))
    cache.commit([tar, written], **Signature(time.time).now())


def evict(folder: Path) -> None:
    """Drop a folder's files from the page cache. What a process has mapped stays: let go of it before."""
    gc.collect()
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def feature_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("features/*/*/shards/*.parquet"))


def plain_parquet(folder: Path) -> Iterator[torch.Tensor]:
    """The same files from front to back, by plain pyarrow: nothing shuffled, nothing checked, no keys."""
    for path in feature_files(folder):
        matrix = feature_matrix(parquet.read_table(path, columns=["feature"])["feature"])
        for start in range(0, len(matrix), BATCH):
            yield torch.from_numpy(matrix[start : start + BATCH])


def opened(folder: Path, **options: Any) -> Features:
    cache = Cache(str(folder))
    return open_features(cache, TEACHER, ENCODER, **options)


def our_epoch(folder: Path, epoch: int, **options: Any) -> Iterator[Any]:
    """An epoch over all features, opening included."""
    features = opened(folder, **options)
    loader = Loader(ChosenRows(features.rows, np.arange(len(features))), "bench", BATCH, **options)
    loader.load_state_dict({**loader.state_dict(), "epoch": epoch})
    return iter(loader)


def in_memory(matrix: np.ndarray, epoch: int) -> Iterator[torch.Tensor]:
    """The limit: index_select by a permutation that is there already."""
    tensor, order = (
        torch.from_numpy(matrix),
        torch.randperm(len(matrix), generator=torch.Generator().manual_seed(epoch)),
    )
    return (tensor.index_select(0, rows) for rows in order.split(BATCH))


def rate(batches: Callable[[], Iterator[Any]], seconds: float = 1e9) -> float:
    """Rows a second of an epoch, or of so many seconds of it; making the iterator counts."""
    started, rows = time.perf_counter(), 0
    for batch in batches():
        rows += len(batch.rows) if hasattr(batch, "rows") else len(batch)
        if time.perf_counter() - started > seconds:
            break
    return rows / (time.perf_counter() - started)


def compare(home: Path, count: int, repeats: int, peer_seconds: float) -> dict[str, Any]:
    """Done when 1."""
    ours = home / "cache"
    matrix = write_cache(ours, count)
    epochs: dict[str, Epoch] = {
        "limit": lambda epoch: in_memory(matrix, epoch),
        "armada": lambda epoch: our_epoch(ours, epoch),
        "parquet": lambda epoch: plain_parquet(ours),
    }
    absent = {}
    for name, peer in PEERS.items():
        try:
            epochs[name] = peer(home / name, matrix)
        except ImportError as error:
            absent[name] = str(error)
    rates: dict[str, list[float]] = {name: [] for name in epochs}
    for epoch in range(-1, repeats):
        for name, batches in epochs.items():
            seconds = peer_seconds if name in PEERS else 1e9
            found = rate(lambda batches=batches, epoch=epoch: batches(epoch + 1), seconds)
            if epoch >= 0:  # the first round warms up
                rates[name].append(found)
    cold: dict[str, list[float]] = {"parquet": [], "armada": [], "armada_decoded": []}
    for _ in range(repeats):
        evict(ours)
        cold["parquet"].append(rate(lambda: plain_parquet(ours)))
        shutil.rmtree(ours / "local")
        evict(ours)
        cold["armada"].append(rate(lambda: our_epoch(ours, 0)))
        evict(ours)
        cold["armada_decoded"].append(rate(lambda: our_epoch(ours, 0)))
    warm = {name: round(median(found)) for name, found in rates.items()}
    return {
        "rows": count,
        "absent": absent,
        "rows_per_second": warm,
        "cold_rows_per_second": {name: round(median(found)) for name, found in cold.items()},
    }


def anonymous_mb() -> float:
    """Memory of this process that no file stands behind, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def large(home: Path, count: int, repeats: int) -> dict[str, Any]:
    """Done when 2 and 3."""
    folder = home / "large"
    write_cache(folder, count)
    indexes = sorted(folder.glob("images/*/shards/*.parquet"))
    seconds: dict[str, list[float]] = {"plain": [], "cold": [], "warm": [], "join": []}
    prompts = [f"a picture of the number {row}" for row in range(count)]
    for _ in range(repeats):
        started = time.perf_counter()
        for path in feature_files(folder):
            parquet.read_table(path)
        for path in indexes:
            parquet.read_table(path, columns=["image_key", "image_sha256"])
        seconds["plain"].append(time.perf_counter() - started)
        shutil.rmtree(folder / "local", ignore_errors=True)
        for name in ("cold", "warm"):
            started = time.perf_counter()
            features = opened(folder)
            seconds[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        places = features.rows_of(prompts)
        seconds["join"].append(time.perf_counter() - started)
        assert len(np.unique(places)) == count
    epoch = our_epoch(folder, 0)
    next(epoch)
    before = anonymous_mb()
    growth = max(anonymous_mb() - before for _ in epoch)
    facts = {f"{name}_seconds": round(median(found), 3) for name, found in seconds.items()}
    return {"rows": count, **facts, "epoch_memory_growth_mb": round(growth), **windows(folder, count, repeats)}


def windows(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Done when 3: a tenth of the decoded bytes."""
    limit = count * DIMENSION * 2 // 10
    opened(folder, max_local_bytes=limit)  # its key table is kept
    plain, windowed, order = [], [], np.empty(0)
    before = anonymous_mb()
    peak = before
    for number in range(repeats):
        plain.append(rate(lambda: plain_parquet(folder)))
        started, rows = time.perf_counter(), []
        for batch in our_epoch(folder, number, max_local_bytes=limit):
            rows.append(batch.rows)
            peak = max(peak, anonymous_mb())
        windowed.append(count / (time.perf_counter() - started))
        order = np.concatenate(rows)
    assert len(np.unique(order)) == count
    return {
        "window_bytes": limit,
        "window_rows_per_second": round(median(windowed)),
        "window_plain_rows_per_second": round(median(plain)),
        "window_memory_growth_mb": round(peak - before),
        "window_autocorrelation": {lag: round(autocorrelation(order, lag), 3) for lag in (1, 10, 100, 1024)},
    }


def huge(home: Path, count: int) -> dict[str, Any]:
    """Done when 2: opening many keys and shards. Keys are random and features narrow, since only these count here."""
    spec = {**ENCODER.spec, "dimension": NARROW}
    encoder = Source(spec, spec_digest(spec))
    cache = Cache(str(home / "huge"), create=True)
    cache.register(TEACHER, encoder)
    generator = np.random.default_rng(0)
    blank = index_rows(0, SHARD_ROWS)
    for start in range(0, count, SHARD_ROWS):
        size = min(SHARD_ROWS, count - start)
        text = generator.bytes(32 * size).hex()
        keys = pa.array(sorted(text[at : at + 64] for at in range(0, len(text), 64)))
        part = blank.slice(0, size)
        for name in ("image_key", "image_sha256"):
            part = part.set_column(part.schema.get_field_index(name), name, keys)
        commit_index(cache, part, start)
        vectors = generator.standard_normal((size, NARROW), np.float32)
        commit_features(cache, TEACHER, encoder, part, vectors, Signature(time.time))
    facts = {}
    for name in ("cold", "warm"):
        started = time.perf_counter()
        features = open_features(Cache(cache.store.url), TEACHER, encoder)
        facts[f"{name}_seconds"] = round(time.perf_counter() - started, 3)
    return {"rows": len(features), **facts}


def bounds(found: dict[str, Any]) -> dict[str, bool]:
    """Which of the bounds hold, of those that could be judged."""
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
        held["windows_memory"] = part["window_memory_growth_mb"] * 1e6 <= part["window_bytes"]
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
    os.environ["XDG_CACHE_HOME"] = str(home / "user")  # the peers' and ours
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
