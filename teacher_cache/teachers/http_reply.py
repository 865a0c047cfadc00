"""Read HTTP replies within limits of size and time, without following redirects to other hosts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from httpx2 import Client


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
    """No reply, or one that cannot be used: cut off, too slow, too large, no picture. `reason` is one of REASONS.
    `sent` is True if the server may have received the request, and so may bill it."""

    def __init__(self, reason: str, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.reason, self.sent = reason, sent


def open_client(connections: int, limits: Limits) -> Client:
    """Return an HTTP client with `connections` connections; use it as a context manager. Proxies are taken from the
    environment."""
    httpx = _httpx()
    pool = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = httpx.Timeout(limits.seconds, connect=min(30.0, limits.seconds))
    client: Client = httpx.Client(limits=pool, timeout=timeout, follow_redirects=False)
    return client


def read_body(client: Client, method: str, url: str, *, limits: Limits, **request: Any) -> bytes:
    """Send a request (`request`: httpx's headers and json) and return the body of the reply.

    Raises StatusError if the status is not 200, ReplyError if there is no reply or it exceeds a limit.
    """
    httpx = _httpx()
    deadline = time.monotonic() + limits.seconds
    try:
        with client.stream(method, url, **request) as response:
            declared = response.headers.get("content-length", "")
            if declared.isdigit() and int(declared) > limits.bytes:
                raise ReplyError("undecodable", f"a body of {declared} bytes; at most {limits.bytes} are read")
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > limits.bytes:
                    raise ReplyError("undecodable", f"a body of more than {limits.bytes} bytes")
                if time.monotonic() > deadline:
                    raise ReplyError("transient", f"no complete reply within {limits.seconds:g} s")
            if response.status_code != 200:
                raise StatusError(response.status_code, response.headers, bytes(body))
            return bytes(body)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ReplyError("transient", f"no connection: {error}", sent=False) from None
    except httpx.TimeoutException:
        raise ReplyError("transient", f"no reply within {limits.seconds:g} s") from None
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise ReplyError("transient", f"the reply was cut off: {error}") from None
    except httpx.InvalidURL as error:
        raise ReplyError("undecodable", f"no usable URL: {error}", sent=False) from None


def _httpx() -> ModuleType:
    try:
        import httpx2 as httpx  # the successor of httpx, for Python 3.11 and later
    except ModuleNotFoundError:
        import httpx  # type: ignore[no-redef,import-not-found]
    return httpx
