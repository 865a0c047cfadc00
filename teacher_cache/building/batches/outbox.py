"""The rows of a plan that are to be sent in batches: those that nobody has taken yet, and those that came back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from teacher_cache.batches.teacher import MOST_BYTES, MOST_REQUESTS, OpenAIBatch
from teacher_cache.building.plan import Plan
from teacher_cache.format.digests import from_hex
from teacher_cache.spool.rows import Wanted


@dataclass
class Outbox:
    """Rows to send: `queue` yields those of the plan. `len` counts the rows that came back."""

    plan: Plan
    queue: Iterator[Wanted]
    teacher: OpenAIBatch
    _left: deque[Wanted] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._left)

    def next_rows(self, most: int) -> list[Wanted]:
        """Return the next rows, as many as fit into one file, at most `most`."""
        rows: list[Wanted] = []
        size = 0
        while len(rows) < min(most, MOST_REQUESTS):
            row = self._left.popleft() if self._left else next(self.queue, None)
            if row is None:
                break
            size += len(self.teacher.line_of([row.request])) + 1
            if rows and size > MOST_BYTES:
                self._left.appendleft(row)
                break
            rows.append(row)
        return rows

    def put_back(self, rows: Sequence[Wanted]) -> None:
        """Put rows back that are to be sent first."""
        self._left.extendleft(reversed(rows))

    def hold(self, rows: Sequence[Wanted]) -> None:
        """Put rows back that somebody else has taken at the moment."""
        self._left.extend(rows)

    def take_back(self, rows: Sequence[Wanted]) -> None:
        """Send rows again that no batch has any more, if the plan wants them."""
        self._left.extend(row for row, place in zip(rows, self._places(rows), strict=True) if place >= 0)

    def count(self, keys: Sequence[str]) -> int:
        """Return how many of some image keys are the plan's."""
        return int((self.plan.requests.index.find(from_hex(keys, "the spool")) >= 0).sum())

    def _places(self, rows: Sequence[Wanted]) -> list[int]:
        keys = from_hex([row.request.image_key for row in rows], "the spool")
        places: list[int] = self.plan.requests.index.find(keys).tolist()
        return places
