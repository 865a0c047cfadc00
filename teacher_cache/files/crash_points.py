"""Crash points: named places in the code at which a test kills the process.

The environment variable ARMADA_CRASH_POINT=POINT:N kills it when it passes POINT for the N-th time. Only tests set the
variable; without it, a crash point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

POINTS = (
    "spool.claim",  # in the transaction that reserves a call
    "drawing.send",  # the call is reserved, its request is not sent
    "spool.record",  # in the transaction that stores an answer
    "spool.sealed",  # in the transaction that removes committed rows
    "store.draft",  # the temporary file is written, not yet synced
    "store.rename",  # the temporary file is synced, not yet renamed
    "store.renamed",  # the file is renamed, the folder not yet synced
    "cache.commit",  # all shards are written, the commit is not
    "cache.committed",  # the commit is written, its rows are still in the spool
    "vacuum.remove",  # a replaced file is about to be removed
    "store.quarantine",  # a damaged file is about to be moved aside
)
BATCH_POINTS = (  # of builds whose teacher sends batches
    "batch.reserve",  # in the transaction that reserves a batch
    "batch.upload",  # before its file is uploaded
    "batch.uploaded",  # the provider has the file, and the spool does not know
    "batch.create",  # before the batch is created
    "batch.created",  # the provider has accepted the batch, and the spool does not know
    "batch.record",  # in the transaction that stores some of its results
    "batch.settled",  # all results are stored, the provider's copies are not deleted
    "batch.deleted",  # the provider's copies are deleted, the spool does not know
)
_passed: Counter[str] = Counter()


def crash_point(point: str) -> None:
    """Kill this process by SIGKILL if a test chose this point and its number."""
    wanted = os.environ.get("ARMADA_CRASH_POINT")
    if not wanted:
        return
    name, _, number = wanted.partition(":")
    if name == point:
        _passed[point] += 1
        if _passed[point] == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
