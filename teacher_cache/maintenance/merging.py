"""Merge: copy into a cache what other caches have and it lacks.

A cache's commits are copied after its shards, so that a kill never leaves a commit without its shards. If two caches
have different pictures for one key, readers take the one with the smallest digest.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from teacher_cache.building.spool_opening import unsealed
from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.commits import Commit, Shard
from teacher_cache.progress_bar import progress
from teacher_cache.registry.packages import file_digest
from teacher_cache.rewriting.rows import register_rewriter, rewriters
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import write_card
from teacher_cache.storage.state import CacheState, cache_state


@dataclass
class Merged:
    """What was copied.

    `missing` are the files that a source lacks: shards that its commits name, and commits that can't be read. `refused`
    are the files among its commits that are ignored, each with the reason. `unsealed` counts the pictures and
    failures in the spools of the sources on this host, which are not copied: a build of the source seals them.
    """

    files: int = 0
    bytes: int = 0
    commits: int = 0
    missing: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    unsealed: int = 0


def merge(sources: Sequence[Cache], target: Cache) -> Merged:
    """Copy shards, specs and commits into `target`. Raise CacheError if a shard's digest is not that of its commit."""
    done = Merged()
    for source in sources:
        source.refresh()
        target.refresh()
        if source.state.left_out:
            raise CacheError(
                f"{source.store}: this copy has a part of a cache, and its commits name more; send what is whole by: "
                f"armada cache push {shlex.quote(str(source.store))} {shlex.quote(str(target.store))}"
            )
        for teacher in source.teachers():
            target.register(teacher)
            for encoder in source.encoders(teacher):
                target.register(teacher, encoder)
        for rewriter in rewriters(source):
            register_rewriter(target, rewriter)
        done.unsealed += sum(unsealed(source).values())
        _copy_shards(source, target, done)
        for commit in source.commits():
            if commit.digest not in target.state.commits:
                target.store.write(f"commits/{commit.digest}.json", source.log.text(commit.digest))
                done.commits += 1
        done.missing += [f"{source.store}/commits/{name}" for name in source.log.unreadable]
        done.refused |= {f"{source.store}/commits/{name}": reason for name, reason in source.log.refused.items()}
    target.refresh()
    write_card(target)
    target.log.write_checkpoint()
    return done


def _copy_shards(source: Cache, target: Cache, done: Merged) -> None:
    """Copy the files that count in both caches together and that the target lacks."""
    there = target.listing([*source.commits(), *target.commits()])
    union = _union(source.state, target.state, there)
    done.missing += [f"{source.store}/{shard.path}" for shard in union.missing]
    files = {file.path: file for live in union.entries.values() for shard in live.values() for file in shard.files()}
    lacking = [file for file in files.values() if there.get(file.path) not in (file.bytes, -1)]
    wanted = [file for file in lacking if source.state.listed.get(file.path) in (file.bytes, -1)]
    with progress(len(wanted), f"merge {source.store}", "file") as bar:
        for file in wanted:
            _copy(source, target, file)
            done.files += 1
            done.bytes += file.bytes
            bar.update()


def _copy(source: Cache, target: Cache, file: Shard) -> None:
    with target.store.draft() as draft:
        source.store.copy_to(file.path, draft)
        if file_digest(draft) != file.sha256:
            raise CacheError(
                f"{source.store}/{file.path}: sha256 differs from the commit's; "
                f"{repair_hint(build_again=False)} there; what was copied stays"
            )
        target.store.publish(draft, file.path)


def _union(source: CacheState, target: CacheState, there: Mapping[str, int]) -> CacheState:
    """Return the state that the target, which lists the files `there`, has with all that the source has."""
    commits: dict[str, Commit] = {**source.commits, **target.commits}
    listed = {**source.listed, **there}
    for commit in commits.values():
        for shard in commit.added:
            for file in shard.files():
                if file.bytes in (source.listed.get(file.path), there.get(file.path)):
                    listed[file.path] = file.bytes
    return cache_state(commits.values(), listed)
