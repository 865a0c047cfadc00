"""Builds by several workers as a user starts them, and what they left in the cache."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

from teacher_cache import Cache
from tests.pipelines.cli import FAKES, command, environment


def write_prompts(folder: Path, rows: int) -> Path:
    """Write prompts, of which each twentieth is refused."""
    path = folder / "prompts.txt"
    path.write_text("".join(f"{'[refused] ' if i % 20 == 19 else ''}prompt {i}\n" for i in range(rows)))
    return path


def words(prompts: Path, cache: Path, *more: Any) -> tuple[Any, ...]:
    return ("cache", "build", prompts, *FAKES, "--cache", cache, "--json", *more)


def start(*arguments: Any, **extra: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), env=environment(**extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def wait_for_calls(log: Path, count: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while len(lines(log)) < count:
        assert time.monotonic() < deadline, f"only {len(lines(log))} calls"
        time.sleep(0.01)


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def content(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what a cache holds: by key, the digest of the picture, or the reason of the failure; and how many features
    it has, which must be one."""
    cache = Cache(str(folder))
    (teacher,) = cache.teachers()
    found: dict[str, tuple[str, ...]] = {}
    for shard in cache.shards("images/"):
        for row in cache.table(shard).to_pylist():
            found[row["image_key"]] = (row["image_sha256"],)
    for row in cache.failures(teacher).to_pylist():
        found[row["image_key"]] = (row["reason"],)
    features = Counter(
        key for shard in cache.shards("features/") for key in cache.table(shard, ["image_key"])["image_key"].to_pylist()
    )
    assert set(features.values()) <= {1}, "a picture was encoded twice"
    return {key: (*facts, str(features[key])) for key, facts in found.items()}
