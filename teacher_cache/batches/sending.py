"""Sending a batch: its file is uploaded and the batch created, each at most once in effect.

The spool knows what is about to be sent before it is sent. After a kill, or a request without a reply, the provider's
files and batches are looked through first: what it has accepted is taken over, and nothing is sent again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from teacher_cache.batches.api import PATIENCE_S, AwayError, BatchApi
from teacher_cache.batches.grouping import groups_of
from teacher_cache.batches.records import Batch
from teacher_cache.batches.tables import BatchTables
from teacher_cache.batches.teacher import OpenAIBatch
from teacher_cache.errors import ArmadaError
from teacher_cache.files.crash_points import crash_point
from teacher_cache.teachers.http_errors import HopelessError, code_words
from teacher_cache.teachers.http_reply import ReplyError

_NEW_FILE_S = 60.0
LISTED_AFTER_S = 30.0  # how long a batch that was accepted may be missing from the provider's list
_FULL = ({"token", "limit"}, {"queue", "limit"}, {"queue", "full"}, {"enqueued"}, {"batch", "limit"})


class FullQueueError(Exception):
    """The provider takes no batch at the moment: as many requests as it allows are waiting."""


@dataclass
class Sender:
    """Sends the batches of one teacher to its server."""

    api: BatchApi
    tables: BatchTables
    teacher: OpenAIBatch
    token: str  # of the spool's ledger
    clock: Callable[[], float] = time.time

    def send(self, batch: Batch, *, is_new: bool) -> Batch:
        """Bring a batch to the state open, or full if the provider's queue is. `is_new`: it was reserved just now, so
        that nothing of it can be at the provider.

        Raises AwayError or InterruptedBuildError, and the batch is kept; HopelessError or ArmadaError if the provider
        refuses it, and its rows are free.
        """
        if batch.state == "sending":
            batch = self._look_for(batch)
        if batch.state == "reserved":
            batch = self._upload(batch, is_new=is_new)
        pause_s = self.api.first_pause_s
        while batch.state != "open":
            try:
                batch = self._create(batch, pause_s)
            except FullQueueError:
                return self.tables.update(batch, state="full", batch_id="", status="", tried_at=self.clock())
            pause_s *= 2
        return batch

    def drop(self, batch: Batch) -> None:
        """Free the rows of a batch that was not accepted, and delete its file if that is possible now."""
        self.tables.forget(batch)
        if batch.file_id:
            with suppress(ReplyError, ArmadaError):
                self.api.delete(batch.file_id)

    @contextmanager
    def _freed_if_refused(self, batch: Batch) -> Iterator[None]:
        """Free the rows of the batch if the provider refuses it for certain."""
        try:
            yield
        except HopelessError:
            self.drop(batch)
            raise
        except ReplyError as error:
            self.drop(batch)
            raise ArmadaError(f"{self.api.url}: it refuses the batch: {self.teacher.without_key(str(error))}") from None

    def _upload(self, batch: Batch, *, is_new: bool) -> Batch:
        def upload() -> str:
            nonlocal is_new
            found = "" if is_new else self.api.find_file(batch.file_name)
            is_new = False
            if not found:
                crash_point("batch.upload")
                found = self.api.upload(batch.file_name, data)
                crash_point("batch.uploaded")
            return found

        groups = groups_of(self.tables.rows(batch), batch.per_request)
        data = b"".join(self.teacher.line_of(group) for group in groups)
        with self._freed_if_refused(batch):
            file_id = self.api.patiently(upload)
        return self.tables.update(batch, state="uploaded", file_id=file_id)

    def _create(self, batch: Batch, pause_s: float) -> Batch:
        """Create the batch; look whether it was accepted if there is no clear reply."""
        batch = self.tables.update(batch, state="sending", tried_at=self.clock())
        crash_point("batch.create")
        unclear = ""
        with self._freed_if_refused(batch):
            try:
                made = self.api.create(batch.file_id, self._metadata(batch))
            except ReplyError as error:
                if is_full(str(error)):
                    raise FullQueueError from None
                if error.reason != "transient":
                    raise
                unclear, pause_s = str(error), max(min(pause_s, 60.0), error.wait_s)
            except HopelessError as error:  # a new file may not be known everywhere yet
                if error.param not in ("file_id", "input_file_id") or pause_s > _NEW_FILE_S:
                    raise
                unclear = str(error)
        crash_point("batch.created")
        if not unclear:
            return self._opened(batch, made)
        if pause_s > PATIENCE_S / 4:
            raise AwayError(
                f"{self.api.url}: no clear reply for a quarter of an hour, the last time: "
                f"{self.teacher.without_key(unclear)}; all batches are kept: run the same command again later"
            )
        self.api.pause(pause_s)
        return self._look_for(batch)

    def _look_for(self, batch: Batch) -> Batch:
        """Take over the batch that the provider has accepted; if there is none, it may be created."""
        while True:
            found = self.api.find_batches(batch.uid, batch.file_id, batch.tried_at)
            for twin in found[1:]:  # the same requests a second time
                if twin.get("status") not in ("cancelling", "cancelled"):
                    self.api.cancel(twin["id"])
            if found:
                return self._opened(batch, found[0])
            wait_s = batch.tried_at + LISTED_AFTER_S - self.clock()
            if wait_s <= 0:
                return self.tables.update(batch, state="uploaded")
            self.api.pause(min(wait_s, 5.0))

    def _opened(self, batch: Batch, made: dict[str, Any]) -> Batch:
        return self.tables.update(batch, state="open", batch_id=made["id"], status=str(made.get("status") or ""))

    def _metadata(self, batch: Batch) -> dict[str, str]:
        return {"armada_batch": batch.uid, "armada_ledger": self.token, "armada_teacher": batch.teacher}


def is_full(code: str) -> bool:
    """Return whether a code of the provider, or the message that begins with it, says that too many requests wait."""
    words = code_words(code.partition(":")[0].lower())
    words |= {word.removesuffix("s") for word in words}
    return any(meaning <= words for meaning in _FULL)
