"""Opening a cache with a long history: how long it takes, and how many requests it makes.

    python benchmarks/commits.py [--commits 10000] [--shards 4000] [--json]

A fifth of the commits replace shards of the others, as compactions do. Exits with code 3 if a bound is missed: under
1 s of processor time with a checkpoint (other programs on the machine don't count; the time by the clock is beside it),
as many requests with all the shards as with a tenth of them, and a state that is computed in linear time (at most 3
times as long for twice the commits).
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from cache_write import ENCODER, TEACHER

from teacher_cache import Cache, sha256
from teacher_cache.files.store import Store
from teacher_cache.format.commits import Commit, Entry, Shard, commit_bytes, parse_commit
from teacher_cache.storage.state import cache_state

FOLDER = f"features/{TEACHER.name}/{ENCODER.name}/shards"
LIMIT_S, REPEATS = 1.0, 3


def write_history(folder: Path, commits: int, shards: int) -> None:
    """Write a cache with so many commits and live shards; the shards have no content that could be read."""
    cache = Cache(str(folder), create=True)
    cache.register(TEACHER, ENCODER)
    (folder / FOLDER).mkdir(parents=True)
    (folder / "commits").mkdir()
    for commit in history(commits, shards):
        for shard in commit.added:
            if shard.rows == 1:  # it is not replaced
                (folder / shard.path).write_bytes(bytes(shard.bytes))
        data = commit_bytes(commit.added, replaced=commit.replaced, by="bench@host", at=commit.at, prompts="bench")
        (folder / "commits" / f"{commit.digest}.json").write_bytes(data)
    cache.refresh()
    cache.commits()
    cache.log.write_checkpoint()


def history(commits: int, shards: int) -> list[Commit]:
    """Return commits of one shard each; the last fifth replace as many as it takes to leave `shards`."""
    compactions = commits // 5
    made = [commit_of(number, number < shards - compactions, ()) for number in range(commits - compactions)]
    replaced = [Entry(commit.digest, commit.added[0].path) for commit in made[shards - compactions :]]
    share = -(-len(replaced) // compactions)
    groups = [replaced[start : start + share] for start in range(0, share * compactions, share)]
    return made + [commit_of(len(made) + number, True, tuple(group)) for number, group in enumerate(groups)]


def commit_of(number: int, is_live: bool, replaced: tuple[Entry, ...]) -> Commit:
    digest = sha256(str(number).encode())
    shard = Shard(f"{FOLDER}/{digest[:32]}.parquet", 9, int(is_live), digest)
    data = commit_bytes([shard], replaced=replaced, by="bench@host", at="2026-01-01T00:00:00+00:00", prompts="bench")
    return parse_commit(sha256(data), data)


def counted(function: Callable[[], Any]) -> Counter[str]:
    """Return how often a function asks the store, by the kind of the request."""
    requests: Counter[str] = Counter()
    names = ("sizes", "names", "open", "read", "exists", "read_range", "modified", "walk")
    originals = {name: getattr(Store, name) for name in names}

    def count(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def asked(*words: Any, **options: Any) -> Any:
            requests[name] += 1
            return original(*words, **options)

        return asked

    try:
        for name, original in originals.items():
            setattr(Store, name, count(name, original))
        function()
    finally:
        for name, original in originals.items():
            setattr(Store, name, original)
    return requests


def seconds_of(function: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    """Return the median seconds that a function takes, of processor time by default."""
    taken = []
    for _ in range(REPEATS):
        started = clock()
        function()
        taken.append(clock() - started)
    return median(taken)


def measure(home: Path, commits: int, shards: int) -> dict[str, Any]:
    large, small = home / "large", home / "small"
    write_history(large, commits, shards)
    write_history(small, max(10, commits // 10), max(2, shards // 10))

    def opened(folder: Path = large) -> list[Shard]:
        return Cache(str(folder)).shards()

    assert len(opened()) == shards, f"{len(opened())} live shards"
    requests, of_a_tenth = counted(opened), counted(lambda: opened(small))
    facts: dict[str, Any] = {"commits": commits, "shards": shards, "seconds": round(seconds_of(opened), 3)}
    facts["seconds_by_the_clock"] = round(seconds_of(opened, time.perf_counter), 3)
    state = Cache(str(large)).state
    half = list(state.commits.values())[: commits // 2]
    whole_s = seconds_of(lambda: cache_state(state.commits.values(), state.listed))
    facts["seconds_of_state"] = round(whole_s, 3)
    facts["times_for_twice"] = round(whole_s / seconds_of(lambda: cache_state(half, state.listed)), 1)
    for path in large.glob("checkpoints/*.json"):
        path.unlink()
    facts["seconds_without_checkpoint"] = round(seconds_of(opened), 3)
    facts |= {"requests": dict(requests), "requests_of_a_tenth": dict(of_a_tenth)}
    facts["bounds_hold"] = facts["seconds"] < LIMIT_S and requests == of_a_tenth and facts["times_for_twice"] <= 3.0
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=10_000)
    parser.add_argument("--shards", type=int, default=4_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="armada-bench-"))
    try:
        facts = measure(home, options.commits, options.shards)
    finally:
        shutil.rmtree(home)
    if options.json:
        print(json.dumps(facts))
    else:
        for name, value in facts.items():
            print(f"{name:28} {value}")
    sys.exit(0 if facts["bounds_hold"] else 3)


if __name__ == "__main__":
    main()
