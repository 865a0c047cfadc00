"""The files of this user and host that belong to a cache: decoded features and the spool. They are not in the cache."""

from __future__ import annotations

from collections.abc import Iterator

from teacher_cache.building.spool_opening import open_existing_spool, workspace_of
from teacher_cache.reading.matrix_store import folders
from teacher_cache.reading.reader import is_whole
from teacher_cache.spool.database import fault
from teacher_cache.storage.cache import Cache


def host_faults(cache: Cache, repair: bool) -> Iterator[tuple[str, str, str]]:
    """Yield the damaged files and folders of this host for a cache: the path, what is wrong, and what was mended.

    Decoded features are moved aside, to be decoded again. A damaged spool is moved aside too, and what can be read of
    it is kept.
    """
    for matrix in folders(cache.derived_folder / "matrices"):
        if is_whole(matrix):
            continue
        mended = ""
        if repair:
            aside = matrix.with_name(matrix.name + ".broken")
            matrix.rename(aside)
            mended = f"moved to {aside.name}"
        message = "the decoded features differ from their digest; they are decoded again when they are needed"
        yield str(matrix), message, mended
    workspace = workspace_of(cache)
    if workspace is None:
        return
    file = workspace.folder / "spool.sqlite"
    if damage := fault(file):
        mended = ""
        if repair:
            with open_existing_spool(cache) as spool:
                kept = sum(spool.unsealed().values()) if spool else 0
            mended = f"moved aside; {kept} unsealed rows that could be read are kept"
        yield str(file), f"the spool can't be read: {damage}", mended
