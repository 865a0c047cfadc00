"""The Files and Batch API of OpenAI and compatible servers, as far as batches of pictures need it.

A request that changes nothing is repeated while the server is away, for a quarter of an hour. Creating a batch is not:
the caller looks first whether the provider has accepted it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from teacher_cache.batches.teacher import PATH
from teacher_cache.errors import ArmadaError
from teacher_cache.teachers.http_errors import classify
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, read_body

if TYPE_CHECKING:
    from httpx2 import Client

PATIENCE_S = 900.0  # how long an absent server is asked again,
UNREACHABLE_S = 15.0  # and if there was no connection from the start
_PAUSES_S = (1.0, 60.0)  # before the second request, doubled each time, up to the longest
_REPLY_BYTES = 64_000_000  # of a reply that is no file
_UPLOAD_S = 1800.0
T = TypeVar("T")


class InterruptedBuildError(ArmadaError):
    """The user stopped the build while it waited for the server."""


class AwayError(ArmadaError):
    """The server did not answer for PATIENCE_S."""


class MissingError(ArmadaError):
    """The server has no such file or batch."""


@dataclass
class BatchApi:
    """One server. Metadata and file names carry the batch's uid, by which it is found again. `without_key` blots the
    API key out of a message."""

    url: str
    client: Client
    headers: dict[str, str]
    seconds: float  # of one request
    stop: Callable[[], bool]
    without_key: Callable[[str], str] = str
    sleep: Callable[[float], None] = time.sleep
    query: str = ""  # added to every address, as api-version=2025-04-01
    has_answered: bool = False

    def address(self, path: str) -> str:
        """Return the address of a path, which may have a query of its own."""
        return self.url + path + (("&" if "?" in path else "?") + self.query if self.query else "")

    def upload(self, name: str, data: bytes) -> str:
        """Upload a file of requests, and return its id. Raises ReplyError; the server may have the file then."""
        files = {"file": (name, data, "application/jsonl")}
        found = self._json("POST", "/files", seconds=_UPLOAD_S, files=files, data={"purpose": "batch"})
        return _text(found, "id")

    def find_file(self, name: str) -> str:
        """Return the id of an uploaded file of requests, or "" if there is none of that name."""
        files = self.patiently(lambda: list(self._listed("/files?purpose=batch")))
        return next((_text(file, "id") for file in files if file.get("filename") == name), "")

    def file_bytes(self, file_id: str) -> int | None:
        """Return the size of a file; None if the server does not tell. Raises MissingError if there is no such file."""
        size = self.patiently(lambda: self._json("GET", f"/files/{quoted(file_id)}")).get("bytes")
        return size if isinstance(size, int) and size >= 0 else None

    def create(self, file_id: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Start a batch and return it. Raises ReplyError; the server may have accepted the batch then."""
        facts = {"input_file_id": file_id, "endpoint": PATH, "completion_window": "24h", "metadata": metadata}
        made = self._json("POST", "/batches", json=facts)
        return {**made, "id": _text(made, "id")}

    def find_batches(self, uid: str, file_id: str, since: float) -> list[dict[str, Any]]:
        """Return the batches that the provider has accepted under a uid, the oldest first: by their metadata, or by
        their file if the server keeps no metadata. `since` are the seconds since 1970 before which none was made."""

        def look() -> list[dict[str, Any]]:
            found = []
            for batch in self._listed("/batches?limit=100"):
                metadata = batch.get("metadata")
                is_same = isinstance(metadata, dict) and metadata.get("armada_batch") == uid
                is_same = is_same or (bool(file_id) and batch.get("input_file_id") == file_id)
                if is_same and not _is_refused(batch):
                    found.append({**batch, "id": _text(batch, "id")})
                if _number(batch.get("created_at"), since) < since - 3600:  # the newest come first
                    break
            return sorted(found, key=lambda batch: _number(batch.get("created_at"), 0.0))

        return self.patiently(look)

    def batches_of(self, teacher: str, ledgers: frozenset[str], since: float) -> dict[str, dict[str, Any]]:
        """Return the batches that the provider has accepted for a teacher (its digest) from some ledgers (their tokens)
        since then (seconds since 1970), by their uid: the oldest one of each."""

        def look() -> dict[str, dict[str, Any]]:
            found = {}
            for batch in self._listed("/batches?limit=100"):
                if _number(batch.get("created_at"), since) < since:  # the newest come first
                    break
                metadata = batch.get("metadata")
                facts = metadata if isinstance(metadata, dict) else {}
                is_ours = facts.get("armada_teacher") == teacher and facts.get("armada_ledger") in ledgers
                if is_ours and not _is_refused(batch):
                    found[str(facts.get("armada_batch"))] = {**batch, "id": _text(batch, "id")}
            return found

        return self.patiently(look)

    def retrieve(self, batch_id: str) -> dict[str, Any]:
        """Return a batch as it is now."""
        return self.patiently(lambda: self._json("GET", f"/batches/{quoted(batch_id)}"))

    def cancel(self, batch_id: str) -> None:
        """Ask the provider to stop a batch."""
        self.patiently(lambda: self._json("POST", f"/batches/{quoted(batch_id)}/cancel"))

    def delete(self, file_id: str) -> None:
        """Delete a file. Raises ReplyError if the server does not answer; a file that is gone already is no error."""
        try:
            self._json("DELETE", f"/files/{quoted(file_id)}")
        except MissingError:
            return

    @property
    def first_pause_s(self) -> float:
        """How long to wait before a request is repeated the first time."""
        return _PAUSES_S[0]

    def now(self) -> datetime:
        """Return the time, by which a server's dates are read."""
        return datetime.now(timezone.utc)

    def patiently(self, request: Callable[[], T]) -> T:
        """Return what a request returns; repeat it with growing pauses while the server is away.

        Raises AwayError if it stays away, InterruptedBuildError if the user stops the build meanwhile, MissingError,
        HopelessError, and ReplyError if the server does not take the request.
        """
        pause_s, waited_s = _PAUSES_S[0], 0.0
        while True:
            try:
                return request()
            except ReplyError as error:
                if error.reason != "transient":
                    raise
                patience_s = UNREACHABLE_S if error.unreachable and not self.has_answered else PATIENCE_S
                if waited_s >= patience_s:
                    raise AwayError(
                        f"{self.url}: no answer for {waited_s:.0f} s, the last time: {error}; all batches are kept: "
                        "run the same command again later"
                    ) from None
                wait_s = max(pause_s, error.wait_s)
                if not waited_s:
                    print(f"{self.url}: no answer, asking again: {self.without_key(str(error))}", file=sys.stderr)
            self.pause(wait_s)
            waited_s += wait_s
            pause_s = min(2 * pause_s, _PAUSES_S[1])

    def pause(self, seconds: float) -> None:
        """Wait. Raises InterruptedBuildError if the user stops the build meanwhile."""
        while seconds > 0:
            if self.stop():
                raise InterruptedBuildError("interrupted while the server was away")
            self.sleep(min(seconds, 0.5))
            seconds -= 0.5

    def _listed(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list, page by page."""
        after, seen = "", set[str]()
        while True:
            page = self._json("GET", path + (f"&after={quoted(after)}" if after else ""))
            found = page.get("data")
            entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
            yield from entries
            after = str(entries[-1].get("id") or "") if entries else ""
            if page.get("has_more") is not True or not after or after in seen:
                return
            seen.add(after)

    def _json(self, method: str, path: str, *, seconds: float = 0.0, **request: Any) -> dict[str, Any]:
        limits = Limits(seconds or self.seconds, _REPLY_BYTES)
        try:
            body = read_body(self.client, method, self.address(path), limits=limits, headers=self.headers, **request)
            self.has_answered = True
        except StatusError as status:
            self.has_answered = True
            if status.status == 404 and method != "POST":
                raise MissingError(f"{self.url}{path}: HTTP 404: the server has no such file or batch") from None
            raise classify(status.status, status.headers, status.body, self.now()) from None
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ReplyError("transient", f"{self.url}{path}: expected a JSON object, found {body[:60]!r}")
        return found


def quoted(name: str) -> str:
    """Return a server's name of a file or batch as a part of an address."""
    return quote(name, "", errors="replace")


def _text(facts: dict[str, Any], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or not value:
        raise ReplyError("transient", f"expected the server's reply to have an {name}, found {value!r}")
    return value


def _number(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _is_refused(batch: dict[str, Any]) -> bool:
    """Whether a batch failed before anything was drawn."""
    counts = batch.get("request_counts")
    is_drawn = batch.get("output_file_id") or (isinstance(counts, dict) and counts.get("completed"))
    return batch.get("status") == "failed" and not is_drawn
