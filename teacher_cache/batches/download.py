"""A provider's file of results, read in parts from any byte on, line by line.

A server that ignores ranges sends the whole file, of which the beginning is skipped. A line's place tells where to go
on after a cut connection or a kill.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from teacher_cache.batches.api import BatchApi, MissingError, quoted
from teacher_cache.teachers.http_errors import classify
from teacher_cache.teachers.http_reply import ReplyError, StatusError, http_module

PART_BYTES = 16_000_000
_ERROR_BYTES = 100_000


@dataclass(frozen=True)
class Line:
    """A line of a file, without its end; `end` is the place of the next one. `text` is None if it was too long. The
    last line may not be ended."""

    text: bytes | None
    end: int
    is_ended: bool = True


def read_lines(api: BatchApi, file_id: str, start: int, longest: int) -> Iterator[Line]:
    """Yield the lines of a file from byte `start`, where a line begins. A line of more than `longest` bytes is left
    out. The last line needs no end.

    Raises MissingError if there is no such file, ReplyError if the connection is cut: go on after the last line.
    """
    buffer, place, is_skipping = bytearray(), start, False
    for piece in _pieces(api, file_id, start):
        buffer += piece
        while (found := buffer.find(b"\n")) >= 0:
            place += found + 1
            yield Line(None if is_skipping or found > longest else bytes(buffer[:found]), place)
            del buffer[: found + 1]
            is_skipping = False
        if len(buffer) > longest:
            is_skipping, place = True, place + len(buffer)
            buffer.clear()
    if buffer or is_skipping:
        yield Line(None if is_skipping else bytes(buffer), place + len(buffer), is_ended=False)


def _pieces(api: BatchApi, file_id: str, start: int) -> Iterator[bytes]:
    """Yield the bytes of a file from `start` to its end: one request per part, or one for all if the server ignores
    ranges."""
    httpx = http_module()
    url = api.address(f"/files/{quoted(file_id)}/content")
    place, total = start, None
    while total is None or place < total:
        headers = {**api.headers, "range": f"bytes={place}-{place + PART_BYTES - 1}"}
        deadline = time.monotonic() + api.seconds
        try:
            with api.client.stream("GET", url, headers=headers) as response:
                if response.status_code == 416:  # there is nothing from this place on
                    return
                if response.status_code not in (200, 206):
                    body = b"".join(_up_to(response.iter_raw(), _ERROR_BYTES))
                    raise StatusError(response.status_code, response.headers, body)
                skip, is_part = place, response.status_code == 206
                if is_part:
                    first, total = _range_of(response.headers.get("content-range", ""))
                    if first != place:
                        raise ReplyError("transient", f"expected the bytes from {place} on, found those from {first}")
                    skip = 0
                before = place
                for piece in response.iter_raw():
                    rest, skip = piece[skip:], max(0, skip - len(piece))
                    place += len(rest)
                    yield rest
                    if is_part and time.monotonic() > deadline:
                        raise ReplyError("transient", f"no complete part of a file within {api.seconds:g} s")
                if not is_part:
                    return
                if place == before:
                    raise ReplyError("transient", "expected a part of a file, found no bytes")
        except StatusError as status:
            if status.status in (404, 410):
                raise MissingError(f"{url}: HTTP {status.status}: the server has no such file") from None
            raise classify(status.status, status.headers, status.body, api.now()) from None
        except httpx.ConnectError as error:
            raise ReplyError("transient", f"no connection: {error}", turned_away=True, unreachable=True) from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ReplyError("transient", f"the file was cut off: {error}") from None


def _range_of(header: str) -> tuple[int, int | None]:
    """Return the first byte and the total of a Content-Range header; (-1, None) if it is unreadable."""
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", header.strip())
    if not match:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _up_to(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    for piece in pieces:
        yield piece[:most]
        most -= len(piece)
        if most <= 0:
            return
