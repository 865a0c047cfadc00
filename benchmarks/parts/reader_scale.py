"""The part of readers.py on size: opening and joining a large cache, many keys, and reading in windows."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from cache_write import DIMENSION, ENCODER, SHARD_ROWS, TEACHER, commit_index, synthetic_rows

from distill import autocorrelation
from parts.reader_cache import anonymous_mb, feature_files, opened, our_epoch, plain_parquet, rate, write_cache
from teacher_cache import Cache, Provenance, Source, commit_features, open_features, spec_digest

NARROW = 16  # dimension of the huge cache's features: only its opening is measured


def large(home: Path, count: int, repeats: int) -> dict[str, Any]:
    """Return the seconds to open a large cache cold and warm and to join it by text, and the memory of an epoch."""
    folder = home / "large"
    write_cache(folder, count)
    indexes = sorted(folder.glob("images/*/indexes/*.parquet"))
    seconds: dict[str, list[float]] = {"plain": [], "cold": [], "warm": [], "join": []}
    processor: dict[str, list[float]] = {"plain_cpu": [], "cold_cpu": []}  # CPU seconds of all threads
    prompts = [f"a picture of the number {row}" for row in range(count)]
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        for path in feature_files(folder):
            parquet.read_table(path)
        for path in indexes:
            parquet.read_table(path, columns=["image_key", "image_sha256"])
        seconds["plain"].append(time.perf_counter() - started)
        processor["plain_cpu"].append(time.process_time() - used)
        shutil.rmtree(Cache(str(folder)).derived_folder, ignore_errors=True)
        for name in ("cold", "warm"):
            started, used = time.perf_counter(), time.process_time()
            features = opened(folder)
            seconds[name].append(time.perf_counter() - started)
            processor.get(f"{name}_cpu", []).append(time.process_time() - used)
        started = time.perf_counter()
        places = features.rows_of(prompts)
        seconds["join"].append(time.perf_counter() - started)
        assert len(np.unique(places)) == count
    epoch = our_epoch(folder, 0)
    next(epoch)
    before = anonymous_mb()
    growth = max(anonymous_mb() - before for _ in epoch)
    facts = {f"{name}_seconds": round(median(found), 3) for name, found in (seconds | processor).items()}
    return {"rows": count, **facts, "epoch_memory_growth_mb": round(growth), **windows(folder, count, repeats)}


def windows(folder: Path, count: int, repeats: int) -> dict[str, Any]:
    """Return the rate, memory and shuffling of an epoch read in windows of a tenth of the decoded bytes."""
    limit = count * DIMENSION * 2 // 10
    opened(folder, max_local_bytes=limit)  # writes the key table, which is kept
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
    """Return the seconds to open very many keys and shards; keys are random and features narrow to save time."""
    spec = {**ENCODER.spec, "dimension": NARROW}
    encoder = Source(spec, spec_digest(spec))
    cache = Cache(str(home / "huge"), create=True)
    cache.register(TEACHER, encoder)
    generator = np.random.default_rng(0)
    blank = synthetic_rows(0, SHARD_ROWS)
    for start in range(0, count, SHARD_ROWS):
        size = min(SHARD_ROWS, count - start)
        text = generator.bytes(32 * size).hex()
        keys = pa.array(sorted(text[at : at + 64] for at in range(0, len(text), 64)))
        part = blank.slice(0, size)
        for name in ("image_key", "image_sha256"):
            part = part.set_column(part.schema.get_field_index(name), name, keys)
        commit_index(cache, part, start)
        vectors = generator.standard_normal((size, NARROW), np.float32)
        commit_features(cache, TEACHER, encoder, part, vectors, Provenance(time.time))
    facts = {}
    for name in ("cold", "warm"):
        started = time.perf_counter()
        features = open_features(Cache(cache.store.url), TEACHER, encoder)
        facts[f"{name}_seconds"] = round(time.perf_counter() - started, 3)
    return {"rows": len(features), **facts}
