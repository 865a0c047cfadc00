"""Named points between which a process may die. A test kills it there: ARMADA_CRASH_POINT=POINT:N, at the N-th passing.

Only tests set the variable; without it a point costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

POINTS = (
    "spool.claim",  # inside the transaction that reserves a call
    "spool.record",  # inside the transaction that keeps an answer
    "spool.sealed",  # inside the transaction that drops committed rows
    "store.draft",  # a temporary file is written, not yet synced
    "store.rename",  # it is synced, not yet renamed
    "store.renamed",  # renamed, the folder not yet synced
    "cache.commit",  # all shards are there, the commit isn't
    "cache.committed",  # the commit is there, the spool still holds its rows
)
_passed: Counter[str] = Counter()


def crash_point(point: str) -> None:
    """Die here by SIGKILL where a test asked for it."""
    wanted = os.environ.get("ARMADA_CRASH_POINT")
    if not wanted:
        return
    name, _, number = wanted.partition(":")
    if name == point:
        _passed[point] += 1
        if _passed[point] == int(number or 1):
            os.kill(os.getpid(), signal.SIGKILL)
