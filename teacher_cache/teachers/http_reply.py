"""Read HTTP replies within limits of size and time, without following redirects."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException
from types import ModuleType
from typing import TYPE_CHECKING, Any

from teacher_cache.teachers.http_direct import DirectConnections, NoConnectionError, Reply

if TYPE_CHECKING:
    from httpx2 import Client

_DIGITS = 18  # most digits of a size


@dataclass(frozen=True)
class Limits:
    """Limits of one call: `seconds` from the first byte sent to the last byte read, and `bytes` of the reply's body."""

    seconds: float
    bytes: int


class StatusError(Exception):
    """A reply whose status is not 200. Redirects are such replies: they are not followed."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, headers, body


class ReplyError(Exception):
    """No reply, an error, or a reply that cannot be used: cut off, too slow, too large, no picture.

    Args:
        reason: One of REASONS.
        message: For the user.
        billed: Whether the provider may bill the call.
        turned_away: Whether the server did not take the request, for a cause that is not the request's: a limit on
            requests, or no connection.
        unreachable: Whether there was no connection.
        wait_s: The seconds that the server asks to wait.
        ambiguous: Whether the error may concern every request, and not only this prompt.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        billed: bool = True,
        turned_away: bool = False,
        unreachable: bool = False,
        wait_s: float = 0.0,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason, self.billed, self.turned_away, self.unreachable = reason, billed, turned_away, unreachable
        self.wait_s, self.ambiguous = wait_s, ambiguous


def open_client(connections: int, limits: Limits) -> Client:
    """Return an HTTP client with `connections` connections; use it as a context manager. Proxies are taken from the
    environment; without one, `read_body` keeps a connection per thread."""
    httpx = http_module()
    pool = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = httpx.Timeout(limits.seconds, connect=min(30.0, limits.seconds))
    headers = {"accept-encoding": "identity"}  # pictures don't shrink
    client: Client = _client_class()(
        verify=httpx.create_ssl_context(), limits=pool, timeout=timeout, follow_redirects=False, headers=headers
    )
    return client


@cache
def _client_class() -> Any:
    """Return httpx's client with connections of each thread as `direct`, which it closes."""

    class ThreadsClient(http_module().Client):  # type: ignore[misc]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.direct = DirectConnections(settings["verify"])

        def __exit__(self, *error: Any) -> None:
            super().__exit__(*error)
            self.direct.close()

    return ThreadsClient


def read_body(client: Client, method: str, url: str, *, limits: Limits, **request: Any) -> bytes:
    """Send a request (`request`: httpx's headers and json) and return the body of the reply.

    Raises StatusError if the status is not 200, ReplyError if there is no reply or it exceeds a limit.
    """
    httpx = http_module()
    deadline = time.monotonic() + limits.seconds
    try:
        with _reply(client, method, url, limits, request) as reply:
            declared = reply.headers.get("content-length", "")
            if declared.isdecimal() and (len(declared) > _DIGITS or int(declared) > limits.bytes):
                raise ReplyError(
                    "undecodable", f"a body of {declared[:_DIGITS]} bytes; at most {limits.bytes} are read"
                )
            body = bytearray()
            for piece in _pieces(reply, limits.bytes + 1):
                body += piece
                if len(body) > limits.bytes:
                    raise ReplyError("undecodable", f"a body of more than {limits.bytes} bytes")
                if time.monotonic() > deadline:
                    raise ReplyError("transient", f"no complete reply within {limits.seconds:g} s")
    except (httpx.ConnectError, httpx.ConnectTimeout, NoConnectionError) as error:
        message = f"no connection: {error}"
        raise ReplyError("transient", message, billed=False, turned_away=True, unreachable=True) from None
    except httpx.PoolTimeout:
        raise ReplyError("transient", "no free connection", billed=False, turned_away=True) from None
    except (httpx.TimeoutException, TimeoutError):
        raise ReplyError("transient", f"no reply within {limits.seconds:g} s") from None
    except (httpx.TransportError, httpx.DecodingError, zlib.error, HTTPException, OSError) as error:
        raise ReplyError("transient", f"the reply was cut off: {error}") from None
    except (httpx.InvalidURL, UnicodeError) as error:  # half a character is no part of one
        raise ReplyError("undecodable", f"no usable URL: {error}", billed=False) from None
    if reply.status != 200:
        raise StatusError(reply.status, reply.headers, bytes(body))
    return bytes(body)


@contextmanager
def _reply(client: Client, method: str, url: str, limits: Limits, request: Mapping[str, Any]) -> Iterator[Reply]:
    """Send a request on this thread's own connection, or by httpx if a proxy or the URL needs it."""
    direct: DirectConnections | None = getattr(client, "direct", None)
    if direct and direct.reaches(url) and request.keys() <= {"headers", "json"}:
        headers = {**client.headers, **request.get("headers", {})}
        body = None
        if "json" in request:
            text = json.dumps(request["json"], ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            headers["content-type"], body = "application/json", text.encode("utf-8")
        with direct.send(method, url, headers, body, limits.seconds) as reply:
            yield reply
        return
    with client.stream(method, url, **request) as response:
        yield Reply(response.status_code, response.headers, response.iter_raw())


def _pieces(reply: Reply, limit: int) -> Iterator[bytes]:
    """Yield the body piece by piece, decompressed if it is compressed; a piece has at most `limit` bytes."""
    encoding = reply.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        yield from reply.pieces
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ReplyError("undecodable", f"the reply's content-encoding is {encoding!r}; expected identity or gzip")
    decompressor = zlib.decompressobj(wbits=47)  # gzip or zlib, by its first bytes
    for piece in reply.pieces:
        yield decompressor.decompress(piece, limit)
        if decompressor.unconsumed_tail:  # longer than the limit
            yield b"\0" * limit
    yield decompressor.flush(1 << 16)[:limit]


def http_module() -> ModuleType:
    """Return the package httpx2 or, before Python 3.11, httpx."""
    try:
        import httpx2 as httpx  # the successor of httpx, for Python 3.11 and later
    except ModuleNotFoundError:
        import httpx  # type: ignore[no-redef]
    return httpx
