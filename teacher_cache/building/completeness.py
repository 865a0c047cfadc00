"""Completeness: a build pays for nothing that the cache may have already.

A cache that is being copied, or that lost files, lacks what its commits name. A build stops then before its first
call, unless it is told that these files are gone for good.
"""

from __future__ import annotations

import shlex

import pyarrow.compute as pc

from teacher_cache.building.plan import missing_features
from teacher_cache.building.spool_opening import sources_of
from teacher_cache.errors import CacheError, missing_file
from teacher_cache.format.digests import DigestIndex
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.sources import Source
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.dataset_card import commits_on_card, write_card


def require_complete(cache: Cache, redraw_missing: bool, provenance: Provenance) -> None:
    """Raise CacheError if files or commits of a cache are missing, or commits can't be read.

    With `redraw_missing`, record what is missing as lost instead, in a commit: builds draw it again, and if the files
    return, they count again.
    """
    cache.refresh()
    state, log = cache.state, cache.log
    for name, reason in log.unreadable.items():
        copy = "wait until the copy of the cache is complete, or run: armada cache verify --repair"
        raise CacheError(
            f"{cache.store}: {len(log.unreadable)} commits can't be read, so that a build could pay again for their "
            f"pictures (commits/{name}: {reason})" + ("" if log.is_newer(name) else f"; {copy} {cache.store}")
        )
    expected = max(commits_on_card(cache), len(log.commits) + len(log.absent))
    if redraw_missing:
        _accept_loss(cache, expected, provenance)
    elif state.missing or expected > len(log.commits):
        raise _incomplete(cache, expected)


def require_teacher(cache: Cache, teacher: Source) -> None:
    """Raise PartError if this copy leaves out on purpose which pictures of a teacher there are, or what its rewriter
    has rewritten."""
    names = [source.name for source in sources_of(teacher)]
    folders = [[f"images/{name}/indexes/", f"failures/{name}/", f"rewrites/{name}/"] for name in names]
    for path in sorted(cache.state.left_out):
        if path.startswith(tuple(folder for some in folders for folder in some)):
            raise cache.absent(missing_file(f"{cache.store}/{path}"), path)


def require_pictures(cache: Cache, teacher: Source, encoder: Source, requested: DigestIndex) -> None:
    """Raise PartError if a build of the requested keys would encode pictures that this copy leaves out on purpose."""
    if not cache.state.left_out:
        return
    needed = missing_features(cache, teacher, encoder, requested)
    paths = pc.unique(needed["path"]).to_pylist()
    for path in sorted(cache.state.left_out.intersection(paths)):
        raise cache.absent(missing_file(f"{cache.store}/{path}"), path)


def _accept_loss(cache: Cache, expected: int, provenance: Provenance) -> None:
    state = cache.state
    if state.missing:
        lost = [e for shard in state.missing for e, s in state.entries[shard.path].items() if not state.is_whole(s)]
        cache.commit([], lost=lost, **provenance.now())
    if expected > len(cache.log.commits):
        cache.log.forget_checkpoint()
        write_card(cache)


def _incomplete(cache: Cache, expected: int) -> CacheError:
    state = cache.state
    files = [file for shard in state.missing for file in shard.files()]
    absent = [file.path for file in files if file.path not in state.listed]
    live = [file for shard in state.live.values() for file in shard.files()]
    partial = [file.path for file in live if state.listed.get(file.path, file.bytes) not in (file.bytes, -1)]
    found = [f"{len(absent)} files that its commits name (for example {absent[0]})"] if absent else []
    found += [f"a part of {len(partial)} files (for example {partial[0]})"] if partial else []
    commits = expected - len(cache.log.commits)
    found += [f"{commits} of {expected} commits"] if commits > 0 else []
    repair = (
        f"run: armada cache verify --repair {shlex.quote(str(cache.store))}, which saves what is sound, or "
        if partial
        else ""
    )
    return CacheError(
        f"{cache.store}: the cache lacks {' and '.join(found)}; wait until its copy is complete, or {repair}build with "
        "--redraw-missing if they are gone for good: then what they contained is drawn and paid again"
    )
