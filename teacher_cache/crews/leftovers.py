"""What an earlier build has left on a machine: its spool's pictures are sealed, and its spending is committed."""

from __future__ import annotations

import time
from pathlib import Path

from teacher_cache.building.sealing import seal
from teacher_cache.building.spool_opening import open_spool, settle, workspace_of
from teacher_cache.crews.messages import Setup
from teacher_cache.format.provenance import Provenance
from teacher_cache.spool.locks import BuildLocks
from teacher_cache.storage.cache import Cache

_PATIENCE_S = 60.0  # for builds whose coordinator has died


def commit_leftovers(setup: Setup) -> None:
    """Commit what this machine's spool of a cache holds. Nothing is written if it has none.

    Builds that still run here, such as workers whose coordinator was killed, are waited for, up to a minute.
    """
    cache = Cache(setup.cache)
    workspace = workspace_of(cache)
    if workspace is None:
        return
    until = time.monotonic() + _PATIENCE_S
    while _is_used(workspace.folder) and time.monotonic() < until:
        time.sleep(0.2)
    provenance = Provenance(time.time, setup.options.prompts)
    with open_spool(cache) as spool:
        for source in cache.teachers():
            if source.digest in spool.unsealed():
                seal(cache, spool, source, setup.options, provenance, again=True)
        cache.refresh()
        settle(cache, spool, provenance)


def _is_used(folder: Path) -> bool:
    locks = BuildLocks(folder)
    try:
        return locks.others()
    finally:
        locks.release()
