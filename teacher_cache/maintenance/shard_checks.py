"""The checks of the shards: those that count, those that were replaced, and files that no commit names."""

from __future__ import annotations

import contextlib

from teacher_cache.errors import NoFileError
from teacher_cache.format.commits import Commit, Entry, Shard
from teacher_cache.format.provenance import Provenance
from teacher_cache.maintenance.problems import Verified
from teacher_cache.maintenance.repair import ADOPTED, accept_loss, adopt, fault_of, mend
from teacher_cache.registry.packages import stream_digest
from teacher_cache.storage.cache import Cache

FOLDERS = ("images", "features", "failures", "rewrites")
_RECORDS = (
    "/teacher.json",
    "/encoder.json",
    "/rewriter.json",
    "/README.md",
)  # no commit names them


def check_shard(cache: Cache, shard: Shard, repair: bool, found: Verified, provenance: Provenance) -> None:
    """Check the files and the content of a live shard, and save what is sound of it if `repair` is set."""
    files = [file for file in shard.files() if file.path not in cache.state.left_out]
    is_part = len(files) < len(list(shard.files()))  # on purpose
    found.shards += bool(files)
    found.bytes += sum(file.bytes for file in files) if is_part else shard.bytes
    damaged, missing, messages = [], [], []
    for file in files:
        try:
            if message := _difference(cache, file):
                damaged.append(file.path)
                messages.append(message)
        except NoFileError:
            missing.append(file.path)
    if not damaged and not missing and not is_part and (fault := fault_of(cache, shard)):
        damaged.append(shard.index.path if shard.index and shard.index.path in fault else shard.path)
        messages.append(fault)
    known_lost = all(entry in cache.state.lost for entry in cache.state.entries_of([shard]))
    if missing and not damaged and known_lost:
        return  # a build was told to draw its rows again, or a repair has saved what was sound
    if is_part:
        mended = "; ".join(f"moved to {cache.store.quarantine(path)}" for path in damaged if repair)
    else:
        mended = mend(cache, shard, damaged, provenance) if repair and (damaged or missing) else ""
    for path, message in zip(damaged, messages, strict=True):
        found.add(path, "damaged", message, mended)
    if repair and missing and not damaged and not mended and not is_part:
        mended = accept_loss(cache, shard, provenance)
    for path in missing:
        message = "a commit names it, but it does not exist; if it is gone for good, build with --redraw-missing"
        found.add(path, "missing", message, mended)


def check_replaced(cache: Cache, path: str, entries: list[Entry], repair: bool, found: Verified) -> None:
    """Check a file that is replaced, and whose rows count again if what replaces it is lost."""
    added = [shard for entry in entries for shard in cache.state.commits[entry.commit].added]
    file = next(file for shard in added for file in shard.files() if file.path == path)
    found.bytes += file.bytes
    with contextlib.suppress(NoFileError):  # a vacuum has just removed it
        if message := _difference(cache, file):
            mended = f"moved to {cache.store.quarantine(path)}" if repair else ""
            found.add(path, "damaged", message, mended)
            cache.refresh()


def _difference(cache: Cache, file: Shard) -> str:
    """Return how a file differs from what its commit states, "" if it does not. Raise NoFileError if it is missing."""
    with cache.store.open(file.path) as stream:
        digest, size = stream_digest(stream), stream.tell()
    if digest == file.sha256:
        return ""
    return f"expected {file.bytes} bytes of sha256 {file.sha256[:12]}, found {size} of {digest[:12]}"


def check_orphans(cache: Cache, commits: list[Commit], repair: bool, found: Verified, provenance: Provenance) -> None:
    """Find files that no commit names: a build was killed before its commit, or the commit was damaged."""
    cache.refresh()
    known = {file.path for c in [*commits, *cache.commits()] for shard in c.added for file in shard.files()}
    known |= {problem.path for problem in found.problems}
    paths = [path for folder in FOLDERS for path in cache.store.walk(folder)]
    for path in sorted(paths, key=lambda path: not path.endswith(".tar")):
        if path in known or path.endswith(_RECORDS) or not cache.store.exists(path):
            continue
        mended = adopt(cache, path, provenance) if repair else ""
        if mended == ADOPTED:
            known |= {file.path for file in cache.state.live[path].files()}
        found.add(path, "orphan", "no commit names it", mended)
