"""Which batches at a provider a build takes over: those that a spool of this host on this cache sent, and lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

from teacher_cache.batches.adopting import Lost, adopt_lost
from teacher_cache.batches.api import BatchApi
from teacher_cache.batches.records import Batch
from teacher_cache.batches.tables import BatchTables
from teacher_cache.batches.teacher import OpenAIBatch
from teacher_cache.building.plan import Plan
from teacher_cache.building.spool_opening import workspace_of
from teacher_cache.spool.spool import Spool
from teacher_cache.storage.cache import Cache
from teacher_cache.storage.workspace import lost_ledgers
from teacher_cache.teachers import source_of_teacher


def adopted(
    api: BatchApi, tables: BatchTables, cache: Cache, spool: Spool, teacher: OpenAIBatch, plan: Plan, planned: int
) -> Iterator[Batch]:
    """Yield the lost batches that have rows of the plan, which are in the spool then. The provider is asked only if a
    spool may be lost: the cache names one that is gone, or no build has been finished with this one."""
    workspace = workspace_of(cache)
    ledgers = lost_ledgers(cache.store, workspace) if workspace else frozenset()
    if not spool.database.read("SELECT count(*) FROM rates")[0][0]:
        ledgers |= {spool.token}
    if ledgers and plan.calls:
        digest = source_of_teacher(teacher).digest
        lost = Lost(digest, teacher.url, ledgers, teacher.price_usd, planned)
        yield from adopt_lost(api, tables, lost, plan.groups_at, time.time())
