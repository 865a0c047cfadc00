"""Vacuum: remove the files of shards that were replaced, and never a row that only they contain.

Before a file is removed, each shard that now holds its rows is read and compared with its size and digest. A file stays
for a retention time after it was replaced, because readers and builds on other machines may hold it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from teacher_cache.errors import CacheError, NoFileError
from teacher_cache.files.crash_points import crash_point
from teacher_cache.format.commits import Commit, Entry, Shard
from teacher_cache.format.digests import DigestIndex, from_hex
from teacher_cache.registry.packages import stream_digest
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.key_columns import digest_index
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
            f"copy of the cache is complete, or run: armada cache verify {shlex.quote(str(cache.store))} --repair"
        )
    before = clock() - retain_hours * 3600
    check = _Check(cache)
    staying: set[str] = set()  # paths of shards
    # An index goes after its tar, so that a vacuum that is killed can be run again.
    for path, entries in sorted(state.replaced_files().items(), key=lambda item: ("/indexes/" in item[0], item[0])):
        if any(entry.path in staying for entry in entries) or _replaced_at(cache, state, path, entries) > before:
            staying |= {entry.path for entry in entries}
            continue
        if fault := check.fault(path, entries):
            done.kept[path] = fault
            staying |= {entry.path for entry in entries}
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


@dataclass
class _Check:
    """Checks that what a file contains is elsewhere; each file is read once."""

    cache: Cache
    _faults: dict[str, str] = field(default_factory=dict)  # of each file that was read, "" if it is sound
    _keys: dict[str, DigestIndex] = field(default_factory=dict)  # of the rows that count, by folder

    def fault(self, path: str, entries: list[Entry]) -> str:
        """Return why a replaced file must stay, "" if it may be removed."""
        state = self.cache.state
        for entry in entries:
            for _, shard in state.replacing(entry):
                for file in shard.files():
                    if fault := self._fault_of(file):
                        return fault
        shard = next(s for s in state.commits[entries[0].commit].added if s.path == entries[0].path)
        if path == shard.path and not path.startswith("features/"):  # features can be computed again
            return self._lost_rows(shard)
        return ""

    def _fault_of(self, file: Shard) -> str:
        if file.path not in self._faults:
            try:
                with self.cache.store.open(file.path) as stream:
                    is_sound = stream_digest(stream) == file.sha256 and stream.tell() == file.bytes
                self._faults[file.path] = "" if is_sound else f"{file.path}, which replaces it, is damaged"
            except NoFileError:
                self._faults[file.path] = f"{file.path}, which replaces it, is missing"
        return self._faults[file.path]

    def _lost_rows(self, shard: Shard) -> str:
        """Return whether a key of this shard has no other row, in words."""
        kind, teacher = shard.path.split("/")[:2]
        column = "rewrite_key" if kind == "rewrites" else "image_key"
        try:
            keys = from_hex(self.cache.table(shard, [column])[column], shard.path)
        except CacheError as error:
            return f"its keys can't be compared with those of the shards that replace it: {error}"
        known = self._keys_of(f"{kind}/{teacher}/", column)
        lost = int((known.find(keys) < 0).sum())
        return f"{lost} of its rows are in no other shard" if lost else ""

    def _keys_of(self, folder: str, column: str) -> DigestIndex:
        if folder not in self._keys:
            self._keys[folder] = digest_index(self.cache, folder, column)
        return self._keys[folder]
