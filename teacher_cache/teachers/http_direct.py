"""HTTP/1.1 calls straight to a server: each thread keeps a connection of its own per server.

Threads that share a pool of connections wait for its lock, and a call costs several times the processor time; with 64
calls in flight at 50 ms that limits the calls per second.
"""

from __future__ import annotations

import http.client
import ipaddress
import select
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socket import socket
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

_PIECE = 128 << 10  # bytes
_CONNECT_S = 30.0  # at most


class NoConnectionError(Exception):
    """The server could not be reached: nothing was sent."""


@dataclass(frozen=True)
class Reply:
    """A reply: `headers` by their names in lower case, and the pieces of its body as they arrive."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


def _is_this_machine(host: str) -> bool:
    """Return whether a host is a loopback address, which is another machine's to a proxy."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DirectConnections:
    """The connections of all threads that use it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["http/1.1"])
        self._context, self._proxies = context, getproxies()
        self._own = threading.local()
        self._opened: list[http.client.HTTPConnection] = []

    def reaches(self, url: str) -> bool:
        """Return whether a URL can be sent as it stands: http or https, without a user, in ASCII, and no proxy of the
        environment is in between. Servers of this machine are called without the proxy."""
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            return False
        is_plain = url.isascii() and url.isprintable() and not any(mark in url for mark in ' "<>\\^`{|}')
        if not is_plain or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            return False
        has_proxy = self._proxies.get(parts.scheme) or self._proxies.get("all")
        return not has_proxy or _is_this_machine(parts.hostname) or bool(proxy_bypass(parts.hostname))

    def close(self) -> None:
        """Close the connections; no thread uses them any more."""
        for connection in self._opened:
            connection.close()

    @contextmanager
    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, seconds: float
    ) -> Iterator[Reply]:
        """Send a request and yield the reply. `seconds` is the longest wait for the next byte.

        Raises NoConnectionError, TimeoutError, or OSError or http.client.HTTPException for a reply that is cut off.
        """
        parts = urlsplit(url)
        connection = self._connected(parts, seconds)
        try:
            connection.request(method, f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}", body, headers)
            with connection.getresponse() as response:
                names = {name.lower(): value for name, value in response.headers.items()}
                yield Reply(response.status, names, _pieces(response))
                is_whole = response.isclosed() or response.length == 0
        except BaseException:
            connection.close()
            raise
        if not is_whole:
            connection.close()

    def _connected(self, parts: SplitResult, seconds: float) -> http.client.HTTPConnection:
        """Return this thread's connection to a server, which is open."""
        known: dict[tuple[str, str], http.client.HTTPConnection] = self._own.__dict__.setdefault("connections", {})
        place = parts.scheme, parts.netloc
        connection = known.get(place)
        if connection is None:
            connection = known[place] = self._new(parts)
            self._opened.append(connection)
        if connection.sock is not None and _has_ended(connection.sock):
            connection.close()
        if connection.sock is None:
            connection.timeout = min(_CONNECT_S, seconds)
            try:
                connection.connect()
            except (OSError, ValueError) as error:
                connection.close()
                raise NoConnectionError(str(error) or type(error).__name__) from None
        if connection.sock.gettimeout() != seconds:
            connection.sock.settimeout(seconds)
        return connection

    def _new(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port
        if parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, context=self._context)
        return http.client.HTTPConnection(host, port)


def _pieces(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := response.read1(_PIECE):
        yield piece
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)


def _has_ended(sock: socket) -> bool:
    """Return whether a server has closed a connection that waits for a request, or sent what nobody asked for."""
    poll = select.poll() if hasattr(select, "poll") else None
    if poll is None:
        return bool(select.select([sock], [], [], 0)[0])
    poll.register(sock, select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))
