"""Verification: compare every file of a cache with what its commits state.

A repair moves damaged files aside, saves what is sound in them, and commits sound files that no commit names. The next
build computes what is still missing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from teacher_cache.errors import CacheError
from teacher_cache.format.commits import Commit, Shard, index_path
from teacher_cache.maintenance.host_files import host_faults
from teacher_cache.maintenance.repair import ADOPTED, adopt, save_sound_rows
from teacher_cache.registry.packages import stream_digest
from teacher_cache.storage.cache import CACHE_JSON, Cache
from teacher_cache.storage.store import Store

FOLDERS = ("images", "features", "failures")


@dataclass(frozen=True)
class Problem:
    """A file with a fault. `kind` is "damaged", "missing" or "orphan"; `mended` states what the repair did."""

    path: str
    kind: str
    message: str
    mended: str = ""


@dataclass
class Verified:
    """How many commits, shards and bytes were checked, and the problems that were found."""

    commits: int = 0
    shards: int = 0
    bytes: int = 0
    problems: list[Problem] = field(default_factory=list)


def verify(url: str, *, repair: bool = False) -> Verified:
    """Check every file of a cache, and mend it if `repair` is set. Raise CacheError if there is no cache at the URL."""
    found = Verified()
    store = Store(url)
    cache = _open(store, url, repair, found)
    if cache is None:
        return found
    _check_sources(cache, repair, found)
    commits = _check_commits(cache, repair, found)
    for shard in cache.live(commits):
        _check_shard(cache, shard, repair, found)
    _check_orphans(cache, commits, repair, found)
    found.problems += [Problem(path, "damaged", *words) for path, *words in host_faults(cache, repair)]
    if repair:
        store.sweep()
    return found


def _open(store: Store, url: str, repair: bool, found: Verified) -> Cache | None:
    """Return the cache, or None if its cache.json is damaged and not mended."""
    if not store.exists("cache.json") and not store.names("commits"):
        return Cache(url)  # it raises the error that there is no cache
    if not store.exists("cache.json") or store.read("cache.json") != CACHE_JSON:
        message = f"expected {CACHE_JSON.decode()}"
        if repair:
            store.write("cache.json", CACHE_JSON)
        found.problems.append(Problem("cache.json", "damaged", message, "written anew" if repair else ""))
        if not repair:
            return None
    return Cache(url)


def _check_sources(cache: Cache, repair: bool, found: Verified) -> None:
    for path in [*cache.store.walk("images"), *cache.store.walk("features")]:
        if path.endswith(("/teacher.json", "/encoder.json")):
            try:
                cache.source(path)
            except CacheError as error:
                mended = cache.store.quarantine(path) if repair else ""
                found.problems.append(Problem(path, "damaged", str(error), mended and f"moved to {mended}"))


def _check_commits(cache: Cache, repair: bool, found: Verified) -> list[Commit]:
    commits = []
    for name in cache.store.names("commits"):
        found.commits += 1
        try:
            commits.append(cache.read_commit(f"commits/{name}"))
        except CacheError as error:
            mended = cache.store.quarantine(f"commits/{name}") if repair else ""
            found.problems.append(Problem(f"commits/{name}", "damaged", str(error), mended and f"moved to {mended}"))
    return commits


def _check_shard(cache: Cache, shard: Shard, repair: bool, found: Verified) -> None:
    found.shards += 1
    found.bytes += shard.bytes
    if not cache.store.exists(shard.path):
        message = "a commit names it, but it does not exist; its rows count as missing"
        found.problems.append(Problem(shard.path, "missing", message, save_sound_rows(cache, shard) if repair else ""))
        return
    with cache.store.open(shard.path) as stream:
        digest, size = stream_digest(stream), stream.tell()
    if digest != shard.sha256:
        message = f"expected {shard.bytes} bytes of sha256 {shard.sha256[:12]}, found {size} of {digest[:12]}"
        mended = ""
        if repair:
            aside = cache.store.quarantine(shard.path)
            mended = "; ".join(filter(None, [f"moved to {aside}", save_sound_rows(cache, shard, aside)]))
        found.problems.append(Problem(shard.path, "damaged", message, mended))


def _check_orphans(cache: Cache, commits: list[Commit], repair: bool, found: Verified) -> None:
    """Find files that no commit names: a build was killed before its commit, or the commit was damaged."""
    known = {shard.path for commit in commits for shard in commit.added}
    known |= {problem.path for problem in found.problems}
    for folder in FOLDERS:
        for path in sorted(cache.store.walk(folder), key=lambda path: not path.endswith(".tar")):
            if path in known or path.endswith(("/teacher.json", "/encoder.json")):
                continue
            mended = adopt(cache, path) if repair else ""
            if mended == ADOPTED and path.endswith(".tar"):
                known.add(index_path(path))  # `adopt` rebuilt it
            found.problems.append(Problem(path, "orphan", "no commit names it", mended))
