"""A local S3 server (moto) that notes requests and can refuse them, and a proxy that cuts connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import boto3
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "not-so-secret", "AWS_DEFAULT_REGION": "us-east-1"}


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *words: Any) -> None:
        pass


class S3Server:
    """Serves S3 on a port of this host. `requests` are "METHOD /bucket/key?query" in their order.

    `refuse` may return an error code for a request, which is then answered with 403 and that code.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.refuse: Callable[[str], str | None] = lambda request: None
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self.port = self._server.port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )

    def puts(self, bucket: str) -> list[str]:
        """Return the keys that were put into a bucket, in their order."""
        start = f"PUT /{bucket}/"
        return [request[len(start) :].partition("?")[0] for request in self.requests if request.startswith(start)]

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}"
        self.requests.append(request)
        code = self.refuse(request)
        if code:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>refused: {code}</Message></Error>".encode()
            start("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        answer: Iterable[bytes] = self._moto(environ, start)
        return answer


class CuttingProxy:
    """Forwards connections to a port. `cut` returns, for the first line of a request, after how many bytes of the
    request and of the answer to close its connection; None for none."""

    def __init__(self, port: int, cut: Callable[[str], tuple[int | None, int | None]]) -> None:
        self._port, self._cut = port, cut
        self.cuts: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Forward one connection; each message of the client that looks like a request is asked for its cut."""
        server = socket.create_connection(("127.0.0.1", self._port))
        limits: dict[str, int | None] = {"up": None, "down": None}
        line = [""]

        def close() -> None:
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def forward(source: socket.socket, target: socket.socket, way: str) -> None:
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    first = data.split(b"\r\n", 1)[0]
                    if way == "up" and first.endswith((b"HTTP/1.1", b"HTTP/1.0")):
                        line[0] = first.decode("latin-1")
                        limits["up"], limits["down"] = self._cut(line[0])
                    limit = limits[way]
                    if limit is not None:
                        target.sendall(data[:limit])
                        if len(data) >= limit:
                            self.cuts.append(f"{way} {line[0]}")
                            break
                        limits[way] = limit - len(data)
                    else:
                        target.sendall(data)
            close()

        down = threading.Thread(target=forward, args=(server, client, "down"), daemon=True)
        down.start()
        forward(client, server, "up")
        down.join()
        client.close()
        server.close()
