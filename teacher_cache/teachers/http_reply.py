"""An HTTP reply read within limits of size and time, from the host that was asked and no other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limits:
    """`seconds` a call, from its first byte sent to its last one read; the largest body taken."""

    seconds: float
    bytes: int


class StatusError(Exception):
    """An answer of another status than 200; redirects are answers too, and aren't followed."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, headers, body


class ReplyError(Exception):
    """No answer, or one that can't be used: cut off, too slow, too large, no picture. `reason` is one of REASONS;
    `sent` says whether the server may have done the work."""

    def __init__(self, reason: str, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.reason, self.sent = reason, sent


def open_client(connections: int, limits: Limits) -> Any:
    """An HTTP client for so many threads; use as a context manager. Proxies come from the environment."""
    httpx = _httpx()
    pool = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    timeout = httpx.Timeout(limits.seconds, connect=min(30.0, limits.seconds))
    return httpx.Client(limits=pool, timeout=timeout, follow_redirects=False)


def read_body(client: Any, method: str, url: str, *, limits: Limits, **request: Any) -> bytes:
    """The body of a 200 answer. Raises StatusError, ReplyError."""
    httpx = _httpx()
    deadline = time.monotonic() + limits.seconds
    try:
        with client.stream(method, url, **request) as response:
            declared = response.headers.get("content-length", "")
            if declared.isdigit() and int(declared) > limits.bytes:
                raise ReplyError("undecodable", f"a body of {declared} bytes; at most {limits.bytes} are taken")
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > limits.bytes:
                    raise ReplyError("undecodable", f"a body of more than {limits.bytes} bytes")
                if time.monotonic() > deadline:
                    raise ReplyError("transient", f"no whole answer within {limits.seconds:g} s")
            if response.status_code != 200:
                raise StatusError(response.status_code, response.headers, bytes(body))
            return bytes(body)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise ReplyError("transient", f"no connection: {error}", sent=False) from None
    except httpx.TimeoutException:
        raise ReplyError("transient", f"no answer within {limits.seconds:g} s") from None
    except (httpx.TransportError, httpx.DecodingError) as error:
        raise ReplyError("transient", f"cut off: {error}") from None
    except httpx.InvalidURL as error:
        raise ReplyError("undecodable", f"no usable URL: {error}", sent=False) from None


def _httpx() -> Any:
    try:
        import httpx2 as httpx  # what httpx became
    except ModuleNotFoundError:
        import httpx  # type: ignore[no-redef,import-not-found]
    return httpx
