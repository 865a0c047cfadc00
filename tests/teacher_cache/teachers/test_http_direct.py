"""Calls straight to a server: a connection per thread, replaced when the server has closed it; a proxy is used if the
environment names one.
"""

import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import pytest

from teacher_cache.teachers.http_direct import DirectConnections
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, open_client, read_body

LIMITS = Limits(5.0, 1_000_000)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def server(*replies):
    """Yield the URL and the requests of a server; a connection gets the next list of replies, then it is closed."""
    listener, heads = socket.create_server(("127.0.0.1", 0)), []

    def serve():
        for of_one in replies:
            connection, _ = listener.accept()
            with connection, suppress(ConnectionError):  # a client need not read a reply to its end
                for reply in of_one:
                    received = b""
                    while b"\r\n\r\n" not in received:
                        piece = connection.recv(65536)
                        if not piece:
                            raise ConnectionError("the client closed the connection")
                        received += piece
                    heads.append(received.decode())
                    connection.sendall(reply)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}", heads
    listener.close()


def ok(text, head=""):
    return f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\n{head}\r\n{text}".encode()


def test_a_connection_is_used_again_and_replaced_when_the_server_has_closed_it():
    with server([ok("one"), ok("two")], [ok("three")]) as (url, heads), open_client(4, LIMITS) as client:
        bodies = [read_body(client, "GET", f"{url}/a?b=c", limits=LIMITS) for _ in range(2)]
        assert bodies == [b"one", b"two"]
        closed = threading.Event()
        closed.wait(0.1)
        assert read_body(client, "POST", f"{url}/x", limits=LIMITS, json={"é": 1}, headers={"k": "v"}) == b"three"
    assert heads[0].startswith("GET /a?b=c HTTP/1.1\r\n")
    assert "accept-encoding: identity" in heads[0].lower()
    assert "k: v" in heads[2]
    assert "content-type: application/json" in heads[2]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "cut off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "cut off"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "cut off"),
        (b"nonsense\r\n\r\n", "cut off"),
        (ok("x" * 2_000_000), "2000000 bytes; at most 1000000"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000_000, "more than 1000000 bytes"),
    ],
)
def test_a_reply_that_cannot_be_read_is_an_error_in_words_and_the_next_call_has_a_new_connection(reply, message):
    with server([reply], [ok("fine")]) as (url, _), open_client(1, LIMITS) as client:
        with pytest.raises(ReplyError, match=message) as caught:
            read_body(client, "GET", url, limits=LIMITS)
        assert caught.value.billed
        assert read_body(client, "GET", url, limits=LIMITS) == b"fine"


def test_a_chunked_reply_and_an_error_are_read_whole_and_the_connection_is_kept():
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    refused = b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\ncontent-length: 2\r\n\r\nno"
    with server([chunked, refused, ok("x")]) as (url, _), open_client(1, LIMITS) as client:
        assert read_body(client, "GET", url, limits=LIMITS) == b"abc"
        with pytest.raises(StatusError) as caught:
            read_body(client, "GET", url, limits=LIMITS)
        assert (caught.value.status, caught.value.headers["retry-after"], caught.value.body) == (429, "7", b"no")
        assert read_body(client, "GET", url, limits=LIMITS) == b"x"


def test_no_connection_is_no_call_and_a_silent_server_is_one():
    short = Limits(0.2, 1000)
    with socket.create_server(("127.0.0.1", 0)) as silent, open_client(1, short) as client:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ReplyError, match=r"no reply within 0\.2 s") as caught:
            read_body(client, "GET", url, limits=short)
        assert (caught.value.unreachable, caught.value.billed) == (False, True)
    with open_client(1, short) as client, pytest.raises(ReplyError, match="no connection") as caught:
        read_body(client, "GET", url, limits=short)
    assert (caught.value.unreachable, caught.value.billed) == (True, False)


def test_a_proxy_of_the_environment_is_used_except_for_the_hosts_that_it_excludes(monkeypatch):
    with server([ok("by the proxy")]) as (proxy, heads):
        monkeypatch.setenv("http_proxy", proxy)
        with open_client(1, LIMITS) as client:
            assert read_body(client, "GET", "http://image.invalid/a", limits=LIMITS) == b"by the proxy"
        assert heads[0].startswith("GET http://image.invalid/a HTTP/1.1")
        monkeypatch.setenv("no_proxy", "excluded.invalid")
        connections = DirectConnections(ssl.create_default_context())
        hosts = ("image.invalid", "excluded.invalid", "localhost:1", "127.3.2.1", "[::1]:80")
        assert [connections.reaches(f"http://{host}/a") for host in hosts] == [False, True, True, True, True]


def test_a_server_of_this_machine_is_called_without_the_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing answers there
    with server([ok("straight")]) as (url, _), open_client(1, LIMITS) as client:
        assert read_body(client, "GET", url, limits=LIMITS) == b"straight"
