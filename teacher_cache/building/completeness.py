"""Completeness: a build pays for nothing that the cache may have already.

A cache that is being copied, or that lost files, lacks what its commits name. A build stops then before its first
call, unless it is told that these files are gone for good.
"""

from __future__ import annotations

from teacher_cache.errors import CacheError
from teacher_cache.format.commits import Provenance
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import commits_on_card, write_card


def require_complete(cache: Cache, redraw_missing: bool, provenance: Provenance) -> None:
    """Raise CacheError if files or commits of a cache are missing, or commits can't be read.

    With `redraw_missing`, record what is missing as lost instead, in a commit: builds draw it again, and if the files
    return, they count again.
    """
    cache.refresh()
    state, log = cache.state, cache.log
    if log.unreadable:
        name, reason = next(iter(log.unreadable.items()))
        raise CacheError(
            f"{cache.store}: {len(log.unreadable)} commits can't be read, so that a build could pay again for their "
            f"pictures (for example commits/{name}: {reason}); wait until the copy of the cache is complete, or run: "
            f"armada cache verify {cache.store} --repair"
        )
    expected = max(commits_on_card(cache), len(log.commits) + len(log.absent))
    if redraw_missing:
        if state.missing:
            lost = [e for shard in state.missing for e, s in state.entries[shard.path].items() if not state.is_whole(s)]
            cache.commit([], lost=lost, **provenance.now())
        if expected > len(log.commits):
            log.forget_checkpoint()
            write_card(cache)
        return
    if state.missing or expected > len(log.commits):
        files = [file.path for shard in state.missing for file in shard.files() if file.path not in state.listed]
        files = files or [shard.path for shard in state.missing]
        commits = expected - len(log.commits)
        found = [f"{len(files)} files that its commits name (for example {files[0]})"] if files else []
        found += [f"{commits} of {expected} commits"] if commits else []
        raise CacheError(
            f"{cache.store}: the cache lacks {' and '.join(found)}; wait until its copy is complete, or build with "
            "--redraw-missing if they are gone for good: then what they contained is drawn and paid again"
        )
