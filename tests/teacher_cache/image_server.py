"""An OpenAI-compatible image server on the loopback interface that draws real PNGs and misbehaves on demand.

`plan(prompt, n)` returns how the server treats the n-th request (from 1) for a prompt: one of FAULTS, "ok" or "url", or
a Reply, which it sends as it is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tests.fakes import png
from tests.teacher_cache.loopback import LoopbackHandler, LoopbackServer, running

KEY = "sk-test-d0n0tleak1234567890"
FAULTS = (
    "429 with Retry-After",
    "429",
    "500",
    "503",
    "refused",
    "html",
    "truncated",
    "huge",
    "huge, undeclared",
    "slow",
    "redirect",
    "late",
    "cut off",
)
LATE_S = 3.0


@dataclass(frozen=True)
class Reply:
    """A reply: its status, its body (bytes, or a value that is sent as JSON) and its headers."""

    status: int
    body: object = b""
    headers: dict[str, str] = field(default_factory=dict)


def error(status: int, headers: dict[str, str] | None = None, **facts: object) -> Reply:
    """Return an error in OpenAI's format."""
    return Reply(status, {"error": {"message": "no", "type": "invalid_request_error", **facts}}, headers or {})


def drawn(picture: bytes, **facts: object) -> Reply:
    """Return a reply with one picture as base64; `facts` stand beside its data."""
    return Reply(200, {"created": 1, "data": [{"b64_json": base64.b64encode(picture).decode()}]} | facts)


class ImageServer(LoopbackServer):
    """`requested` counts the requests by prompt and `fetched` the downloads by path. `bodies`, `keys` (authorization
    headers) and `times` (seconds) have one entry per request."""

    def __init__(self, plan: Callable[[str, int], str | Reply]) -> None:
        super().__init__(_Handler)
        self.plan = plan
        self.requested: Counter[str] = Counter()
        self.fetched: Counter[str] = Counter()
        self.bodies: list[dict[str, object]] = []
        self.keys: list[str] = []
        self.times: list[float] = []


class _Handler(LoopbackHandler):
    server: ImageServer

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.fetched[self.path] += 1
            first = self.server.fetched[self.path] == 1
            self.server.keys.append(self.headers.get("authorization", ""))
        if "flaky" in self.path and first:
            self.send(503, b"busy")
        elif "gone" in self.path:
            self.send(404, b"purged")
        elif "loop" in self.path:
            self.head(302, {"Location": self.path, "Content-Length": "0"})
        elif "to-file" in self.path:
            self.head(302, {"Location": "file:///etc/passwd", "Content-Length": "0"})
        elif "moved" in self.path:
            place = f"../final/{self.path.rpartition('/')[2]}"
            self.head(302, {"Location": place, "Content-Length": "0"})
        else:
            self.send(200, png(int(self.path.rpartition("/")[2], 16) % 2**32), {"Content-Type": "image/png"})

    def do_POST(self) -> None:
        body = json.loads(self.read_body())
        prompt = body["prompt"]
        with self.server.lock:
            self.server.requested[prompt] += 1
            number = self.server.requested[prompt]
            self.server.bodies.append(body)
            self.server.keys.append(self.headers.get("authorization", ""))
            self.server.times.append(time.monotonic())
        if self.path != "/v1/images/generations":
            self.send(404, {"error": {"message": "no such path"}})
            return
        seeds = [int(hashlib.sha256(f"{prompt}/{k}".encode()).hexdigest()[:8], 16) for k in range(body.get("n", 1))]
        action = self.server.plan(prompt, number)
        if action == "fixed seed":  # one picture per seed, whatever the prompt
            action, seeds = "ok", [int(body.get("seed", 42))]
        self._act(action, seeds)

    def _act(self, action: str | Reply, seeds: list[int]) -> None:
        if isinstance(action, Reply):
            self.send(action.status, action.body, action.headers)
            return
        pictures = [png(seed) for seed in seeds]
        echo = f"of {self.headers.get('authorization', '')}"  # a careless server that repeats the key
        if action == "ok":
            self._reply([{"b64_json": base64.b64encode(picture).decode()} for picture in pictures])
        elif action.startswith("url"):
            base = f"{self.server.origin}/files/{action}"
            self._reply([{"url": f"{base}/{seed:08x}"} for seed in seeds])
        elif action == "too few":
            self._reply([{"b64_json": base64.b64encode(pictures[0]).decode()}])
        elif action == "429 with Retry-After":
            self._error(429, "slow down " + echo, headers={"Retry-After": "0.2"})
        elif action == "a day":
            self._error(429, "slow down", headers={"Retry-After": "86400"})
        elif action.startswith("code "):
            _, status, code = action.split()
            self._error(int(status), "no, " + echo, code)
        elif action in ("429", "500", "503"):
            self._error(int(action), "trouble " + echo)
        elif action == "refused":
            self._error(400, "Your request was rejected by our safety system " + echo, "content_policy_violation")
        elif action == "html":
            self.send(200, b"<html><body>Please log in</body></html>", {"Content-Type": "text/html"})
        elif action == "truncated":
            whole = pictures[0]
            self._reply([{"b64_json": base64.b64encode(whole[: len(whole) // 2]).decode()}])
        elif action.startswith("huge"):
            self._huge(declared=action == "huge")
        elif action == "slow":
            self.head(200, {"Content-Length": "1000"})
            for _ in range(60):
                self.wfile.write(b" ")
                time.sleep(1)
        elif action == "redirect":
            self.head(307, {"Location": "http://203.0.113.1/v1/images/generations", "Content-Length": "0"})
        elif action == "late":
            time.sleep(LATE_S)
            self._act("ok", seeds)
        elif action == "cut off":
            self.head(200, {"Content-Length": "1000"})
            self.wfile.write(b'{"data": [')
            self.close_connection = True
        else:
            raise AssertionError(action)

    def _reply(self, entries: list[dict[str, str]]) -> None:
        self.send(200, {"created": 1, "data": entries})

    def _error(self, status: int, message: str, code: str = "", headers: dict[str, str] | None = None) -> None:
        self.send(status, {"error": {"message": message, "code": code}}, headers)

    def _huge(self, declared: bool) -> None:
        self.head(200, {"Content-Length": str(300_000_000)} if declared else {"Connection": "close"})
        with contextlib.suppress(OSError):
            for _ in range(300):
                self.wfile.write(bytes(1_000_000))
        self.close_connection = True


def serving(
    plan: Callable[[str, int], str | Reply] = lambda prompt, number: "ok",
) -> AbstractContextManager[ImageServer]:
    """Yield a running server."""
    return running(ImageServer(plan))
