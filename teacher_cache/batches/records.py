"""A batch as the spool knows it: what was sent, how far it got, and how much of its results is stored."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from teacher_cache.spool.locks import BATCH
from teacher_cache.spool.rows import Wanted

# reserved: nothing is known to be sent. uploaded: the provider has the file. sending: the provider may have accepted
# the batch. full: its queue was full, and nothing was accepted. open: accepted. settled: all rows have an answer, and
# the provider's copies are to be deleted.
State = Literal["reserved", "uploaded", "sending", "full", "open", "settled"]


@dataclass(frozen=True)
class Batch:
    """One batch. Its rows are those of the spool whose owner is `owner`."""

    uid: str  # random; names the file and is in the batch's metadata
    teacher: str  # digest
    server: str  # base URL
    state: State
    rows: int  # pictures
    rows_left: int  # pictures without an answer
    price_usd: float | None  # reserved per picture
    per_request: int  # pictures per request, at most
    file_id: str
    batch_id: str
    status: str  # the provider's word, as of the last poll
    output_id: str  # the provider's file of results
    errors_id: str
    output_at: int  # bytes of each file whose results are stored
    errors_at: int
    results: int  # requests in the results so far that the provider carried out
    made_at: float  # seconds since 1970
    tried_at: float  # when its creation was last requested
    missing_since: float  # since when its results could not be found; 0 if they were
    build: str  # the build that handles it

    @property
    def owner(self) -> str:
        """The owner of the batch's rows in the spool."""
        return BATCH + self.uid

    @property
    def file_name(self) -> str:
        """The name of its file at the provider."""
        return f"armada-{self.uid}.jsonl"


COLUMNS = ", ".join(field.name for field in fields(Batch))


@dataclass(frozen=True)
class Reserved:
    """What became of wanted rows: a batch of those that were free, those that somebody else has claimed, how many are
    done, and whether the budget ended before the rows did."""

    batch: Batch | None
    taken: int  # rows that were looked at, from the first
    held: tuple[Wanted, ...] = ()
    is_spent: bool = False
