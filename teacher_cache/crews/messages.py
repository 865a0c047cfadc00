"""What a coordinator and a worker tell each other: orders in one direction, reports in the other. All can be pickled.

A report is a snapshot of the worker's whole work so far, so that only the newest one counts and none must arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from teacher_cache.building.options import BuildOptions
from teacher_cache.spool.rows import Wanted


@dataclass(frozen=True)
class Setup:
    """What a worker builds. `teacher` and `encoder` are specs as the user typed them; the digests are those of the
    coordinator's adapters, which the worker's must equal."""

    cache: str
    teacher: str
    encoder: str
    teacher_digest: str
    encoder_digest: str
    options: BuildOptions
    concurrency: int | None = None
    planned: int | None = None  # the shared spool's last seal before the plan; None if the worker has its own spool
    slot: int = 0  # the number of the worker, 0 to workers - 1, which decides its device
    workers: int = 1


@dataclass(frozen=True)
class Allowance:
    """Up to where a worker may spend: caps on what its ledger has ever spent for the teacher and for its rewriter."""

    calls: int | None = None
    usd: float | None = None


@dataclass(frozen=True)
class Draw:
    """Pictures to request. `ours` are the ledgers of all workers."""

    rows: tuple[Wanted, ...]
    allowance: Allowance | None = None  # instead of the build's own caps
    ours: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Encode:
    """Pictures to encode (key_columns.PLACE_COLUMNS): those of whole tars, which no other worker reads."""

    places: pa.Table


@dataclass(frozen=True)
class End:
    """There is no more to do. With `at_once`, what was ordered before is left as soon as the calls in flight end."""

    at_once: bool = False


Order = Draw | Encode | End


@dataclass(frozen=True)
class Report:
    """What a worker has done so far."""

    is_ready: bool = False  # its spool is open, and what earlier builds left there is sealed
    ledger: str = ""
    spent: tuple[int, float] = (0, 0.0)  # calls and dollars that its ledger has ever spent; for its rewriter, too
    received: int = 0  # orders
    waiting: int = 0  # rows of its orders that it has not claimed yet
    claimed: int = 0  # rows
    drawn: int = 0  # pictures
    failed: int = 0  # pictures
    is_idle: bool = False  # all its orders are done, and what came of them is committed
    counts: Mapping[str, int] = field(default_factory=dict)  # units done, by the label of the bar that shows them
    refused: int = 0  # features of `Encode` orders that are no numbers, or zero
    has_lost_tars: bool = False  # a tar of an `Encode` order is not there any more
    stopped: str = ""  # why the last pictures were not drawn: "budget" or "interrupted"
    error: str = ""  # in words, of an error that ends the whole build
    exit_code: int = 0  # of that error
    has_ended: bool = False
