"""Merge: copy into a cache what other caches have and it lacks.

A cache's commits are copied after its shards, so that a kill never leaves a commit without its shards. If two caches
have different pictures for one key, readers take the one with the smallest digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from teacher_cache.building.spool_opening import unsealed
from teacher_cache.errors import CacheError, repair_hint
from teacher_cache.format.commits import Commit
from teacher_cache.progress_bar import progress
from teacher_cache.registry.packages import file_digest
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import write_card


@dataclass
class Merged:
    """What was copied.

    `missing` are the shards that a source's commits name and that it lacks. `unsealed` counts the pictures
    and failures in the spools of the sources on this host, which are not copied: a build of the source seals them.
    """

    files: int = 0
    bytes: int = 0
    commits: int = 0
    missing: list[str] = field(default_factory=list)
    unsealed: int = 0


def merge(sources: Sequence[Cache], target: Cache) -> Merged:
    """Copy shards, specs and commits into `target`. Raise CacheError if a shard's digest is not that of its commit."""
    done = Merged()
    for source in sources:
        for teacher in source.teachers():
            target.register(teacher)
            for encoder in source.encoders(teacher):
                target.register(teacher, encoder)
        done.unsealed += sum(unsealed(source).values())
        commits = {name: source.read_commit(f"commits/{name}") for name in source.store.names("commits")}
        _copy_shards(source, target, list(commits.values()), done)
        for name in commits:
            if not target.store.exists(f"commits/{name}"):
                target.store.copy_from(source.store, f"commits/{name}")
                done.commits += 1
    write_card(target)
    return done


def _copy_shards(source: Cache, target: Cache, commits: Sequence[Commit], done: Merged) -> None:
    shards = source.live(commits)
    with progress(len(shards), f"merge {source.store}", "shard") as bar:
        for shard in shards:
            if not source.store.exists(shard.path):
                done.missing.append(f"{source.store}/{shard.path}")
            elif not target.store.exists(shard.path):
                with target.store.draft() as draft:
                    source.store.copy_to(shard.path, draft)
                    if file_digest(draft) != shard.sha256:
                        raise CacheError(
                            f"{source.store}/{shard.path}: sha256 differs from the commit's; "
                            f"{repair_hint(build_again=False)} there; what was copied stays"
                        )
                    target.store.publish(draft, shard.path)
                done.files += 1
                done.bytes += shard.bytes
            bar.update()
