"""Batches that the provider has and this host's spool has lost: found by their metadata, and collected after all.

A batch names the ledger that sent it. Those of this spool's own ledger, and of spools that were at its place before,
are nobody else's. The file of a batch tells its keys; what is missing of them in the plan belongs to the batch again.
Of a batch that was collected the provider has no file any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from teacher_cache.batches.api import BatchApi, MissingError
from teacher_cache.batches.download import read_lines
from teacher_cache.batches.records import Batch
from teacher_cache.batches.tables import BatchTables
from teacher_cache.batches.teacher import MOST_BYTES
from teacher_cache.spool.budget import Budget
from teacher_cache.spool.rows import Wanted

_KEPT_S = 31 * 86_400.0  # how long providers keep results


@dataclass(frozen=True)
class Lost:
    """What is looked for: the batches of a teacher (its digest) at a server, sent by some ledgers. `planned` is the
    spool's last seal before the plan was made, `price_usd` the price of a picture in a batch."""

    teacher: str
    server: str
    ledgers: frozenset[str]
    price_usd: float | None
    planned: int


def adopt_lost(
    api: BatchApi, tables: BatchTables, lost: Lost, rows_of: Callable[[dict[str, int]], list[Wanted]], now: float
) -> Iterator[Batch]:
    """Yield each lost batch that has rows of the plan, after it was written into the spool: it is collected like any
    other. `rows_of` returns the plan's missing rows for the keys of requests, with the number of pictures of each."""
    known = {batch.uid for batch in tables.batches(lost.teacher)}
    for uid, facts in api.batches_of(lost.teacher, lost.ledgers, now - _KEPT_S).items():
        pictures = {} if uid in known else _pictures(api, str(facts.get("input_file_id") or ""))
        rows = rows_of(pictures)
        made = facts.get("created_at")
        reserved = tables.reserve(
            lost.teacher,
            lost.server,
            rows,
            Budget(price_usd=lost.price_usd),  # it was paid for: no cap can undo it
            lost.planned,
            max(pictures.values(), default=1),
            uid=uid,
            state="open",
            batch_id=facts["id"],
            file_id=str(facts.get("input_file_id") or ""),
            status=str(facts.get("status") or ""),
            made_at=float(made) if isinstance(made, int | float) else now,
        )
        if reserved.batch:
            yield reserved.batch


def _pictures(api: BatchApi, file_id: str) -> dict[str, int]:
    """Return the keys of the requests in a file, and how many pictures each asks for; none if the file is gone, or if
    somebody else has written it."""
    try:
        lines = api.patiently(lambda: [line.text for line in read_lines(api, file_id, 0, MOST_BYTES)])
    except MissingError:
        return {}
    found = {}
    try:
        for line in filter(None, lines):
            request: Any = json.loads(line)
            found[str(request["custom_id"])] = int(request["body"].get("n") or 1)
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found
