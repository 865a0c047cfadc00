"""Opening the spool of a cache: it is made, mended if its file is damaged, and brought up to the cache's commits.

Spools of this host whose cache was moved here are adopted: what waits in them is sealed into this cache, and what was
spent from them is committed.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from teacher_cache.batches.moving import move_batches
from teacher_cache.building.options import BuildOptions
from teacher_cache.building.rewriting.sealing import seal_rewrites
from teacher_cache.building.sealing import seal
from teacher_cache.errors import CacheError
from teacher_cache.files.rights import check_writable
from teacher_cache.format.commits import Spent
from teacher_cache.format.provenance import Provenance
from teacher_cache.format.recipes import rewriter_of
from teacher_cache.format.sources import Source
from teacher_cache.rewriting.rows import register_rewriter, rewriters, shards_folder
from teacher_cache.spool.database import fault
from teacher_cache.spool.locks import BuildLocks
from teacher_cache.spool.salvage import finish_salvage, salvage
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.workspace import (
    Workspace,
    find_workspace,
    moved_workspaces,
    open_workspace,
    other_workspaces,
    unmark,
)
from teacher_cache.teachers import Teacher, source_of_rewriter


@contextmanager
def open_spool(cache: Cache) -> Iterator[Spool]:
    """Open this host's spool of a cache, and make it if necessary.

    Raise CacheError if the state folder can't be made or written to, or the spool can't be read.
    """
    is_new = workspace_of(cache) is None
    own = open_workspace(cache.store, lambda: _ledgers(cache))
    if is_new:
        _name_others(cache, own)
    with _opened(cache, own) as spool:
        yield spool


def _name_others(cache: Cache, own: Workspace) -> None:
    """Say where work in progress lies that a user may miss: under another host name, or of a cache that was here."""
    for other in other_workspaces(cache.store, own):
        if other.host != own.host:
            _say(
                f"{other.folder}: work in progress on this cache of the host {other.host}, which is not used here; if "
                f"this host only has a new name, set ARMADA_HOST={other.host}"
            )
            continue
        with contextlib.suppress(CacheError), Spool(other.folder, other.token) as spool:
            if waiting := sum(spool.unsealed().values()):
                _say(
                    f"{other.folder}: {waiting} unsealed rows of another cache that was at this path before; a build "
                    "in the folder to which it was moved seals them"
                )


@contextmanager
def open_existing_spool(cache: Cache) -> Iterator[Spool | None]:
    """Open this host's spool of a cache, or yield None if it has none: nothing is written then."""
    workspace = workspace_of(cache)
    if workspace is None:
        yield None
        return
    with _opened(cache, workspace) as spool:
        yield spool


def workspace_of(cache: Cache) -> Workspace | None:
    """Return this host's workspace of a cache, or None if there is none."""
    return find_workspace(cache.store, lambda: _ledgers(cache))


def adopt_moved_spools(cache: Cache, own: Spool, options: BuildOptions, provenance: Provenance) -> None:
    """Seal what waits in the spools of caches that were moved here, take over their batches, commit what they spent,
    and remove them. `own` is the spool of the cache where it is now."""
    for moved in list(moved_workspaces(cache.store)):
        if _is_in_use(moved):
            _say(
                f"{moved.folder}: a build of {moved.cache}, which was moved here, still runs; its pictures are left "
                "to it"
            )
            continue
        with _opened(cache, moved) as spool:
            for source in cache.teachers():
                seal(cache, spool, source, options, provenance, again=True)
            for source in rewriters(cache):
                seal_rewrites(cache, spool, source, options, provenance, again=True)
            settle(cache, spool, provenance)
            move_batches(spool, own)
            left = sum(spool.unsealed().values())
        if not left:
            shutil.rmtree(moved.folder, ignore_errors=True)
            unmark(cache.store, moved)


def settle(cache: Cache, spool: Spool, provenance: Provenance) -> None:
    """Commit what was spent from this ledger, unless the commits say so already: failed and lost calls too."""
    known: dict[str, tuple[int, float]] = {}
    for record in _committed(cache, spool.token):
        known[record.teacher] = max(known.get(record.teacher, (0, 0.0)), (record.calls, record.cost_usd))
    new = [r for r in spool.statement() if (r.calls, r.cost_usd) > known.get(r.teacher, (0, 0.0))]
    if new:
        cache.commit([], spent=new, **provenance.now())


def total_spent(cache: Cache, spool: Spool | None, *sources: Source) -> tuple[int, float]:
    """Return all calls for a teacher, or for several sources, and their cost in dollars: what the cache's commits say
    was spent elsewhere, and what this host's spool says was spent here, sealed or not."""
    token = spool.token if spool else ""
    spent = [cache.spent(source.digest, without=token) for source in sources]
    spent += [spool.spent(source.digest) for source in sources] if spool else []
    return sum(calls for calls, _ in spent), round(sum(usd for _, usd in spent), 9)


def spent_elsewhere(cache: Cache, spool: Spool, teacher: Source) -> tuple[int, float]:
    """Return what other ledgers have committed for a teacher and its rewriter, whose calls count under one budget."""
    spent = [cache.spent(source.digest, without=spool.token) for source in sources_of(teacher)]
    return sum(calls for calls, _ in spent), sum(usd for _, usd in spent)


def sources_of(teacher: Source) -> list[Source]:
    """Return the sources whose calls a teacher's pictures cost: itself, and its rewriter if it has one."""
    rewriter = rewriter_of(teacher)
    return [teacher, rewriter] if rewriter else [teacher]


def prepare(
    cache: Cache,
    spool: Spool,
    teacher: Teacher,
    teacher_source: Source,
    encoder_source: Source,
    options: BuildOptions,
    provenance: Provenance,
) -> int:
    """Seal what earlier builds left in this host's spools, and read the cache again. Return the number of the last seal
    before that: a picture is in the cache as it was read, or in a later seal."""
    adopt_moved_spools(cache, spool, options, provenance)
    if spool.unsealed():
        check_writable(cache.store, build_folders(teacher_source, encoder_source))
    cache.register(teacher_source, encoder_source)
    if rewriter := getattr(teacher, "rewriter", None):
        register_rewriter(cache, source_of_rewriter(rewriter))
    for source in cache.teachers():
        if source.digest in spool.unsealed():
            seal(cache, spool, source, options, provenance, again=True)
    for source in rewriters(cache):
        if source.digest in spool.unsealed():
            seal_rewrites(cache, spool, source, options, provenance, again=True)
    planned = spool.last_seal()
    cache.refresh()
    return planned


def build_folders(teacher: Source, encoder: Source) -> list[str]:
    """Return the folders of a cache into which a build writes."""
    images = [f"images/{teacher.name}/{kind}" for kind in ("shards", "indexes")]
    images += [shards_folder(rewriter)[:-1] for rewriter in sources_of(teacher)[1:]]
    return [*images, f"features/{teacher.name}/{encoder.name}/shards", f"failures/{teacher.name}", "commits"]


def unsealed(cache: Cache) -> dict[str, int]:
    """Return the pictures and failures of a cache that wait on this host to be sealed, by the digest of their teacher.

    Those of a spool whose cache was moved here count; the next build adopts them.
    """
    found: Counter[str] = Counter()
    with open_existing_spool(cache) as spool:
        found.update(spool.unsealed() if spool else {})
    for moved in moved_workspaces(cache.store):
        with _opened(cache, moved) as spool:
            found.update(spool.unsealed())
    return dict(found)


@contextmanager
def _opened(cache: Cache, workspace: Workspace) -> Iterator[Spool]:
    file = workspace.folder / "spool.sqlite"
    with workspace.lock:
        finish_salvage(file)
        if damage := fault(file):
            if _is_in_use(workspace):
                raise CacheError(
                    f"{file}: the spool is damaged ({damage}), and a build uses it; run again when it has ended"
                )
            saved = salvage(file)
            _say(
                f"{file}: the spool is damaged ({damage}); it was moved to {saved.aside}; {saved.pictures} pictures "
                f"and {saved.failures} failures that were not sealed could be read and are kept"
            )
        spool = Spool(workspace.folder, workspace.token)
    with spool:
        spool.raise_to(_committed(cache, spool.token))
        yield spool


def _is_in_use(workspace: Workspace) -> bool:
    locks = BuildLocks(workspace.folder)
    try:
        return locks.others()
    finally:
        locks.release()


def _committed(cache: Cache, token: str) -> list[Spent]:
    return [record for commit in cache.commits() for record in commit.spent if record.ledger == token]


def _ledgers(cache: Cache) -> frozenset[str]:
    return frozenset(record.ledger for commit in cache.commits() for record in commit.spent)


def _say(message: str) -> None:
    print(message, file=sys.stderr)
