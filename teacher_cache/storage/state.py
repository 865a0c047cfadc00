"""The state of a cache: a pure function of its commits and of the files that are listed.

The cache is an observed-remove set. What a commit adds counts until a commit replaces exactly that entry, which names
the commit and the path; a replacement counts only while what replaces is there. Thus the order in which commits and
files arrive, are copied or are lost never makes a row vanish whose file exists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from teacher_cache.format.commits import Commit, Entry, Shard


@dataclass(frozen=True)
class CacheState:
    """What counts in a cache at one moment.

    A *live* entry is one that no effective commit replaces. A commit is *effective* if each of its entries is whole
    (its files are there, with their sizes) or is replaced by an effective commit.
    """

    commits: Mapping[str, Commit]
    listed: Mapping[str, int]  # the size in bytes of each file, or -1 if the store does not state it
    live: Mapping[str, Shard]  # by path, sorted
    missing: tuple[Shard, ...]  # live, not whole, and neither known to be lost nor contained in what they replaced
    entries: Mapping[str, Mapping[Entry, Shard]]  # the live entries of each live path
    replacements: Mapping[Entry, tuple[Commit, ...]]  # the effective commits that replace an entry
    lost: frozenset[Entry]  # what a commit records as lost; it counts again if its files return
    left_out: frozenset[str] = frozenset()  # paths in `listed` that this copy of the cache lacks on purpose

    def is_readable(self, shard: Shard) -> bool:
        """Return whether a live shard's files are listed, and are not the remains of one that is known to be lost."""
        is_lost = all(entry in self.lost for entry in self.entries[shard.path])
        return all(file.path in self.listed for file in shard.files()) and (self.is_whole(shard) or not is_lost)

    def is_whole(self, shard: Shard) -> bool:
        """Return whether a shard's files, its index included, are listed with their sizes."""
        return _is_whole(shard, self.listed)

    def as_if_sound(self) -> CacheState:
        """Return the state that the cache would have if each listed file of a commit had its size."""
        files = (file for commit in self.commits.values() for shard in commit.added for file in shard.files())
        sizes = {file.path: file.bytes for file in files if file.path in self.listed}
        left_out = {path: size for path, size in self.listed.items() if path in self.left_out}
        return cache_state(self.commits.values(), {**self.listed, **sizes}, left_out)

    def entries_of(self, shards: Iterable[Shard]) -> list[Entry]:
        """Return the live entries of some paths, for a commit that replaces them."""
        return [entry for shard in shards for entry in self.entries.get(shard.path, ())]

    @cached_property
    def live_files(self) -> frozenset[str]:
        """The paths of the files, indexes included, of all live entries."""
        return frozenset(_files(shard for entries in self.entries.values() for shard in entries.values()))

    def replaced_files(self) -> dict[str, list[Entry]]:
        """Return the listed files of which no live entry is left, each with its entries."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for commit in self.commits.values():
            for shard in commit.added:
                for path in _files([shard]):
                    if path not in self.live_files and path in self.listed:
                        found[path].append(Entry(commit.digest, shard.path))
        return dict(found)

    def replacing(self, entry: Entry) -> Iterator[tuple[Commit, Shard]]:
        """Yield the live shards that now hold the rows of a replaced entry, each with the commit that added it."""
        waiting, seen = [entry], {entry}
        while waiting:
            for commit in self.replacements.get(waiting.pop(), ()):
                for shard in commit.added:
                    added = Entry(commit.digest, shard.path)
                    if added in seen:
                        continue
                    seen.add(added)
                    if added in self.replacements:
                        waiting.append(added)
                    else:
                        yield commit, shard


def cache_state(
    commits: Iterable[Commit], listed: Mapping[str, int], left_out: Mapping[str, int] = MappingProxyType({})
) -> CacheState:
    """Return the state of a cache from its commits and the sizes of its listed files, in linear time.

    `left_out` are the sizes of files that are not there on purpose: they count as if they were.
    """
    listed = {**listed, **left_out}
    known = {commit.digest: commit for commit in commits}
    added = ((commit, shard) for commit in known.values() for shard in commit.added)
    whole = {Entry(commit.digest, shard.path): _is_whole(shard, listed) for commit, shard in added}
    replacements = _replacements(known, whole)
    lost = frozenset(entry for commit in known.values() for entry in commit.lost)
    live: dict[str, list[tuple[Entry, Shard]]] = defaultdict(list)
    for commit in known.values():
        for shard in commit.added:
            entry = Entry(commit.digest, shard.path)
            if entry not in replacements:
                live[shard.path].append((entry, shard))
    # The rows of a commit that replaces are in what it replaced, which is live if the commit is not effective.
    contained = {
        commit.digest for commit in known.values() if commit.replaced and all(old in whole for old in commit.replaced)
    }
    chosen: dict[str, Shard] = {}
    missing = []
    for path in sorted(live):
        entries = sorted(live[path], key=lambda pair: (not whole[pair[0]], pair[0]))
        first, chosen[path] = entries[0]
        if not whole[first] and any(e not in lost and e.commit not in contained for e, _ in entries):
            missing.append(chosen[path])
    entries_of = {path: dict(live[path]) for path in chosen}
    return CacheState(known, listed, chosen, tuple(missing), entries_of, replacements, lost, frozenset(left_out))


def _replacements(commits: Mapping[str, Commit], whole: Mapping[Entry, bool]) -> dict[Entry, tuple[Commit, ...]]:
    """Return the effective commits that replace each entry: the least fixpoint, found by counting."""
    lacking = {digest: sum(not whole[Entry(digest, s.path)] for s in c.added) for digest, c in commits.items()}
    found: dict[Entry, list[Commit]] = {}
    waiting = [commit for digest, commit in commits.items() if not lacking[digest]]
    while waiting:
        commit = waiting.pop()
        for entry in set(commit.replaced):
            if entry not in whole:
                continue  # the commit that it names has not arrived
            first = entry not in found
            found.setdefault(entry, []).append(commit)
            if first and not whole[entry]:
                lacking[entry.commit] -= 1
                if not lacking[entry.commit]:
                    waiting.append(commits[entry.commit])
    return {entry: tuple(sorted(by, key=lambda commit: commit.digest)) for entry, by in found.items()}


def _is_whole(shard: Shard, listed: Mapping[str, int]) -> bool:
    return all(listed.get(file.path) in (file.bytes, -1) for file in shard.files())


def _files(shards: Iterable[Shard]) -> Iterator[str]:
    for shard in shards:
        for file in shard.files():
            yield file.path


def spent_in(commits: Iterable[Commit], teacher: str, without: str = "") -> tuple[int, float]:
    """Return the calls that were ever made for a teacher, and their cost in dollars, over all ledgers but one.

    `teacher` is the digest of the teacher's spec. Of each ledger the record with the most calls counts.
    """
    most: dict[str, tuple[int, float]] = {}
    for commit in commits:
        for record in commit.spent:
            if record.teacher == teacher and record.ledger != without:
                known = most.get(record.ledger, (0, 0.0))
                most[record.ledger] = max(known, (record.calls, float(record.cost_usd)))
    return sum(calls for calls, _ in most.values()), sum(most[ledger][1] for ledger in sorted(most))
