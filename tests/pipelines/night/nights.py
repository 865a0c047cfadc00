"""A night with everything that its report can show, and a receiver of notifications on the loopback address."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pipelines.night.facts import Night, gather
from teacher_cache import (
    ArmadaError,
    BuildOptions,
    Cache,
    Failure,
    Picture,
    Request,
    build_requests,
    make_requests,
    source_of_teacher,
)
from tests import fakes

SCRIPT = "<script>document.title = 'taken'; fetch('https://example.org/')</script>"
PLAIN = [f"a quiet picture of thing number {i}" for i in range(40)]
REFUSED = [f"[refused] a crowd, number {i}, {SCRIPT}" for i in range(5)]
PROMPTS = [*PLAIN, *REFUSED, "[transient] a riot", "[blank] nothing at all", "猫の絵 ネコ"]


def write_prompts(folder: Path, prompts: list[str] = PROMPTS) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in prompts), "utf-8")
    return path


@dataclass
class Receiver:
    """What was posted: path, headers and JSON of each request. `status` is what it answers."""

    port: int = 0
    status: int = 200
    location: str = ""
    received: list[tuple[str, dict[str, str], dict[str, object]]] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, object]:
        """The one JSON object that was posted."""
        assert len(self.received) == 1, self.received
        return self.received[0][2]


@contextlib.contextmanager
def receiver(status: int = 200, location: str = "") -> Iterator[Receiver]:
    """Run a server that takes POST requests."""
    kept = Receiver(status=status, location=location)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.received.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(kept.status)
            if kept.location:
                self.send_header("Location", kept.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()


def night_of(
    cache: Cache,
    prompts: list[str] = PROMPTS,
    *,
    words: tuple[str, ...] = ("cache", "build", "rows.jsonl"),
    error: str = "",
    teacher: Any = None,
    price: float = 0.04,
    **options: Any,
) -> Night:
    """Build as the command does, in this process, and return the facts."""
    teacher, encoder = teacher or fakes.teacher(price=price), fakes.encoder(dimension=64)
    requests = make_requests(source_of_teacher(teacher), prompts, options.get("samples", 1))
    started = time.time()
    report = build_requests(cache, requests, teacher, encoder, BuildOptions(prompts="rows.jsonl", **options))
    return gather(
        cache,
        requests,
        teacher,
        encoder,
        None if error else report,
        prompts="rows.jsonl",
        words=words,
        started=started,
        error=error,
    )


class InterruptedTeacher(fakes.FakeTeacher):
    """Is interrupted by Ctrl-C after its fifth picture."""

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        for count, answer in enumerate(super().draw(requests), 1):
            yield answer
            if count == 5:
                os.kill(os.getpid(), signal.SIGINT)


class PacedTeacher(fakes.FakeTeacher):
    """Takes a sixth of a second per picture, until the file that ARMADA_TEST_GO names is there."""

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        for answer in super().draw(requests):
            time.sleep(0 if os.path.exists(os.environ["ARMADA_TEST_GO"]) else 0.16)
            yield answer


class DeadTeacher(fakes.FakeTeacher):
    """Fails after its fifth picture; its error has secrets in it, as a careless plug-in's may."""

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        for count, answer in enumerate(super().draw(requests), 1):
            yield answer
            if count == 5:
                raise ArmadaError(f"https://me:PASS-w0rd@draw.example/v1?key=QUERY-t0ken: {os.environ['MY_API_KEY']}")
