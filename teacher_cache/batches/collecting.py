"""Collecting: look how far a batch is; when it has ended, store its results, and settle what has none.

Results are stored as they are read, together with the place in the file up to which they are. Only when every row of
the batch is settled, and the whole file was read, are the provider's copies deleted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from teacher_cache.batches.api import BatchApi, MissingError
from teacher_cache.batches.download import read_lines
from teacher_cache.batches.grouping import groups_of
from teacher_cache.batches.records import Batch
from teacher_cache.batches.refusals import settle_refused
from teacher_cache.batches.results import Results
from teacher_cache.batches.tables import BatchTables, Settled
from teacher_cache.batches.teacher import OpenAIBatch
from teacher_cache.errors import ArmadaError
from teacher_cache.files.crash_points import crash_point
from teacher_cache.spool.rows import Wanted
from teacher_cache.teachers import Failure, Picture
from teacher_cache.teachers.http_reply import ReplyError

ENDED = ("completed", "failed", "expired", "cancelled")
MISSING_S = 600.0  # how long the results of an ended batch may be missing before its requests are made again
_ROWS, _BYTES = 64, 32_000_000  # stored in one transaction


class HopelessBatchError(ArmadaError):
    """No request of this kind can succeed, as the results of a batch say. Their pictures stay missing."""


@dataclass
class Collector:
    """Collects the batches of one teacher. `check` makes an answer ready to be stored; `stored` is told of each set of
    answers that was, with the batch's rows by their keys."""

    api: BatchApi
    tables: BatchTables
    teacher: OpenAIBatch
    most_attempts: int
    check: Callable[[Picture | Failure], Picture | Failure]
    stored: Callable[[Settled, Mapping[str, Wanted]], None]
    clock: Callable[[], float] = time.time
    _rows: dict[str, Wanted] = field(default_factory=dict)

    def look(self, batch: Batch) -> Batch | None:
        """Ask how far an open batch is, and collect it if it has ended. Returns it as it is then: None if nothing of it
        is left, in the state full if the provider's queue was too full for it.

        Raises HopelessBatchError, after all that came is stored, if no request of this kind can succeed.
        """
        if batch.state == "settled":
            return self._clean_up(batch)
        if batch.state != "open":
            return batch
        facts = self.api.retrieve(batch.batch_id)
        status = str(facts.get("status") or "")
        output, errors = (str(facts.get(f"{name}_file_id") or "") for name in ("output", "error"))
        if (status, output, errors) != (batch.status, batch.output_id, batch.errors_id):
            batch = self.tables.update(batch, status=status, output_id=output, errors_id=errors)
        return self._collect(batch, facts) if status in ENDED else batch

    def _collect(self, batch: Batch, facts: dict[str, Any]) -> Batch | None:
        rows = self.tables.rows(batch)
        self._rows = {row.request.image_key: row for row in rows}
        groups = {group[0].image_key: group for group in groups_of(rows, batch.per_request)}
        attempts = {key: row.attempts for key, row in self._rows.items()}
        results = Results(self.api, self.teacher, dict(groups), attempts, self.most_attempts, self.check)
        batch, is_whole = self._read(batch, results, "errors")
        batch, is_output_whole = self._read(batch, results, "output")
        for note in results.notes():
            _say(f"batch {batch.batch_id}: {note}")
        drawn = _count(facts, "completed")
        is_missing = not is_output_whole or (not batch.output_id and drawn > batch.results)
        if results.groups and (is_missing or not is_whole) and batch.status != "failed":
            batch = batch if batch.missing_since else self.tables.update(batch, missing_since=self.clock())
            if self.clock() - batch.missing_since < MISSING_S:
                return batch
        refusal = None
        settled = Settled()
        if batch.status == "failed" and not batch.results:
            refusal = settle_refused(results, list(groups), facts, settled)
            if refusal.is_full and not settled:
                return self.tables.update(batch, state="full", batch_id="", status="", tried_at=self.clock())
        self._settle_rest(batch, results, drawn - batch.results, settled)
        batch = self._store(batch, settled, state="settled")
        crash_point("batch.settled")
        left = self._clean_up(batch)
        hopeless = results.hopeless or (refusal.hopeless if refusal else "")
        if hopeless:
            raise HopelessBatchError(f"{self.api.url}: batch {batch.batch_id}: {self.teacher.without_key(hopeless)}")
        return left

    def _settle_rest(self, batch: Batch, results: Results, lost: int, settled: Settled) -> None:
        """Settle the requests without a result. Of a batch that was completed they failed; of another one, as many were
        made as the provider counts beyond the results (`lost`), and may have been paid for."""
        for key in list(results.groups):
            if batch.status == "completed" or lost > 0:
                cost = self.teacher.price_usd if lost > 0 else None if self.teacher.price_usd is None else 0.0
                lost -= 1
                results.fail(key, "the batch's results have no answer to this request", cost, settled)
            else:
                results.unsent(key, settled)

    def _read(self, batch: Batch, results: Results, which: str) -> tuple[Batch, bool]:
        """Read one of the two files from where it was left, and store its answers. Returns the batch, and whether the
        file was read to its end: it is not if the provider does not have it, or less of it than it says."""
        file_id, name = (batch.output_id, "output_at") if which == "output" else (batch.errors_id, "errors_at")
        if not file_id:
            return batch, True
        try:
            size = self.api.file_bytes(file_id)

            settled, place, held = Settled(), int(getattr(batch, name)), 0

            def read_on() -> None:  # from the last line that was read, which may not be stored yet
                nonlocal batch, settled, place, held
                for line in read_lines(self.api, file_id, place, self.teacher.longest_line):
                    if not line.is_ended and line.end < (size or 0):  # cut off: it is read again
                        return
                    results.read(line.text, settled)
                    place, held = line.end, held + len(line.text or b"")
                    if len(settled) >= _ROWS or held >= _BYTES:
                        batch = self._store(batch, settled, **{name: place})
                        settled, held = Settled(), 0

            self.api.patiently(read_on)
            batch = self._store(batch, settled, **{name: place})
            return batch, size is None or place >= size
        except MissingError:
            return batch, False

    def _store(self, batch: Batch, settled: Settled, **facts: Any) -> Batch:
        batch = self.tables.settle(batch, settled, **facts)
        self.stored(settled, self._rows)
        return batch

    def _clean_up(self, batch: Batch) -> Batch | None:
        """Delete the provider's copies of a settled batch. What can't be deleted now is left to a later look."""
        try:
            for file_id in (batch.output_id, batch.errors_id, batch.file_id):
                if file_id:
                    self.api.delete(file_id)
        except (ReplyError, ArmadaError) as error:
            if isinstance(error, ReplyError) and error.reason == "transient":
                return batch
            _say(f"batch {batch.batch_id}: its files stay at the provider: {self.teacher.without_key(str(error))}")
        crash_point("batch.deleted")
        self.tables.forget(batch)
        return None


def _count(facts: dict[str, Any], name: str) -> int:
    counts = facts.get("request_counts")
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _say(message: str) -> None:
    print(message, file=sys.stderr)
