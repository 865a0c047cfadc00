"""Verification: compare every file of a cache with what its commits state.

A repair moves damaged files aside, saves what is sound in them, and commits sound files that no commit names. The next
build computes what is still missing. A cache of another format is refused and stays as it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.files.store import Store
from teacher_cache.format.commits import FORMAT, REWRITES_FORMAT
from teacher_cache.format.provenance import Provenance
from teacher_cache.keys import sha256
from teacher_cache.maintenance.host_files import host_faults
from teacher_cache.maintenance.problems import Verified
from teacher_cache.maintenance.shard_checks import check_orphans, check_replaced, check_shard
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.cache_json import CACHE_JSON, check_format
from teacher_cache.storage.dataset_card import commits_on_card, write_card


def verify(url: str, *, repair: bool = False, clock: Callable[[], float] = time.time) -> Verified:
    """Check every file of a cache, and mend it if `repair` is set. `clock` returns seconds since the epoch.

    Raise CacheError if there is no cache at the URL or it has another format.
    """
    found = Verified()
    store = Store(url)
    cache = _open(store, url, repair, found)
    if cache is None:
        return found
    for path in store.links_out():
        found.add(path, "link", "the symbolic link leads out of the cache, and is not followed: copy the file here")
    cache.log.reads_checkpoints = False  # each commit is read
    _check_sources(cache, repair, found)
    _check_log(cache, repair, found)
    commits, provenance = cache.commits(), Provenance(clock, "repair")
    state = cache.state.as_if_sound()  # a file without its size is damaged; what it replaced is not missing for that
    for path, entries in state.replaced_files().items():  # first: if what replaces them is damaged, they count again
        check_replaced(cache, path, entries, repair, found)
    for shard in sorted(state.live.values(), key=lambda shard: not state.is_whole(shard)):
        check_shard(cache, shard, repair, found, provenance)
    check_orphans(cache, commits, repair, found, provenance)
    for path, message, mended in host_faults(cache, repair):
        found.add(path, "damaged", message, mended)
    if repair and found.problems:
        store.sweep()
        cache.refresh()
        write_card(cache)
    return found


def _open(store: Store, url: str, repair: bool, found: Verified) -> Cache | None:
    """Return the cache, or None if its cache.json is damaged and not mended."""
    try:
        data = store.read("cache.json")
    except NoFileError:
        data = b""
        if not store.names("commits"):
            return Cache(url)  # it raises the error that there is no cache
    if data != CACHE_JSON:
        if _states_format(data):
            check_format(store)
        for name in store.names("commits")[:8]:  # without a readable cache.json, the commits tell the format
            _check_format_of(store, name)
        if repair:
            store.write("cache.json", CACHE_JSON)
        found.add("cache.json", "damaged", f"expected {CACHE_JSON.decode()}", "written anew" if repair else "")
        if not repair:
            return None
    return Cache(url)


def _states_format(data: bytes) -> bool:
    try:
        return type(json.loads(data)["format"]) is int
    except (ValueError, TypeError, KeyError, RecursionError):
        return False


def _check_format_of(store: Store, name: str) -> None:
    data = store.read(f"commits/{name}")
    found = json.loads(data)["format"] if _states_format(data) else FORMAT
    if found not in (FORMAT, REWRITES_FORMAT) and sha256(data) == name.removesuffix(".json"):
        raise CacheError(
            f"{store}: cache.json can't be read, and commits/{name} has format {found}, which is not this armada's "
            f"{FORMAT} or {REWRITES_FORMAT}; nothing was changed"
        )


def _check_sources(cache: Cache, repair: bool, found: Verified) -> None:
    for path in [path for folder in ("images", "features", "rewrites") for path in cache.store.walk(folder)]:
        if path.endswith(("/teacher.json", "/encoder.json", "/rewriter.json")):
            try:
                cache.source(path)
            except CacheError as error:
                mended = cache.store.quarantine(path) if repair else ""
                found.add(path, "damaged", str(error), mended and f"moved to {mended}")


def _check_log(cache: Cache, repair: bool, found: Verified) -> None:
    """Check the files among the commits, the checkpoints, and how many commits the card states."""
    store, log = cache.store, cache.log
    commits = cache.commits()
    found.commits = len(commits) + len(log.unreadable)
    texts: dict[str, bytes] = {}
    for name in store.sizes("checkpoints"):
        of_checkpoint = log.texts_of_checkpoint(name)
        texts |= of_checkpoint
        if not of_checkpoint:
            if repair:
                store.remove(f"checkpoints/{name}")
            message = "it does not have the digest in its name; it is derived from the commits"
            found.add(f"checkpoints/{name}", "damaged", message, "removed" if repair else "")
    for name, reason in [*log.refused.items(), *log.unreadable.items()]:
        path = f"commits/{name}"
        if log.is_newer(name):
            found.add(path, "newer", reason)
            continue
        mended = f"moved to {store.quarantine(path)}" if repair else ""
        found.add(path, "damaged" if name in log.unreadable else "refused", reason, mended)
    listed = store.sizes("commits")
    for digest, data in texts.items():
        path = f"commits/{digest}.json"
        if f"{digest}.json" not in listed:
            if repair:
                store.write(path, data)
            if path not in {problem.path for problem in found.problems}:
                message = "a checkpoint contains it, and it does not exist; the copy of the cache may be incomplete"
                found.add(path, "missing", message, "written again from the checkpoint" if repair else "")
    if repair:
        cache.refresh()
        commits = cache.commits()
    stated = commits_on_card(cache)
    if stated > len(commits):
        message = f"it states {stated} commits, and {len(commits)} are here; the copy of the cache may be incomplete"
        found.add("README.md", "missing", message, "written anew" if repair else "")
