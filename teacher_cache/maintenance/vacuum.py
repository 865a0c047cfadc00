"""Vacuum: remove the files of shards that were replaced, and never a row that only they contain.

Before a file is removed, each shard that now holds its rows is read and compared with its size and digest. A file stays
for a retention time after it was replaced, because readers and builds on other machines may hold it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.format.commits import Commit, Entry, Shard
from teacher_cache.registry.packages import stream_digest
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.crash_points import crash_point
from teacher_cache.storage.state import CacheState

RETAIN_HOURS = 24.0


@dataclass
class Removed:
    """The numbers of files and bytes that were removed, and the replaced files that stay, each with the reason."""

    files: int = 0
    bytes: int = 0
    kept: dict[str, str] = field(default_factory=dict)


def remove_replaced(cache: Cache, retain_hours: float, clock: Callable[[], float]) -> Removed:
    """Remove the files that were replaced at least `retain_hours` ago. `clock` returns seconds since the epoch.

    Raise CacheError if a commit can't be read: it may name any of these files.
    """
    cache.refresh()
    done, state = Removed(), cache.state
    if cache.log.unreadable or cache.log.absent:
        raise CacheError(
            f"{cache.store}: a commit can't be read and may name any file, so that nothing was removed; wait until the "
            f"copy of the cache is complete, or run: armada cache verify {cache.store} --repair"
        )
    before = clock() - retain_hours * 3600
    checked: dict[str, str] = {}  # the fault of each file that was read, "" if it is sound
    for path, entries in sorted(state.replaced_files().items()):
        if _replaced_at(cache, state, path, entries) > before:
            continue
        faults = [_fault(cache, shard, checked) for entry in entries for _, shard in state.replacing(entry)]
        if any(faults):
            done.kept[path] = next(filter(None, faults))
            continue
        crash_point("vacuum.remove")
        cache.store.remove(path)
        done.files += 1
        done.bytes += max(0, state.listed[path])
    cache.refresh()
    return done


def _replaced_at(cache: Cache, state: CacheState, path: str, entries: list[Entry]) -> float:
    """Return when a file was last replaced or written here, in seconds since the epoch.

    A commit may arrive long after it was written, by a copy or a merge, and a build may write a file again.
    """
    commits = {commit.digest: commit for entry in entries for commit in state.replacements[entry]}
    times = [cache.store.modified(path)]
    for commit in commits.values():
        times += [_time_of(commit), cache.store.modified(f"commits/{commit.digest}.json")]
    return max(times)


def _time_of(commit: Commit) -> float:
    try:
        return datetime.fromisoformat(commit.at).timestamp()
    except (ValueError, OverflowError, OSError):
        return float("inf")  # unknown: the files stay


def _fault(cache: Cache, shard: Shard, checked: dict[str, str]) -> str:
    """Return why a shard that replaces is not sound, "" if it is. Each file is read once."""
    for file in shard.files():
        if file.path not in checked:
            try:
                with cache.store.open(file.path) as stream:
                    is_sound = stream_digest(stream) == file.sha256 and stream.tell() == file.bytes
                checked[file.path] = "" if is_sound else f"{file.path}, which replaces it, is damaged"
            except NoFileError:
                checked[file.path] = f"{file.path}, which replaces it, is missing"
        if checked[file.path]:
            return checked[file.path]
    return ""
