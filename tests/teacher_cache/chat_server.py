"""An OpenAI-compatible chat server on the loopback interface that rewrites texts and misbehaves on demand.

`plan(text, n)` returns how the server treats the n-th request (from 1) for a text: the text that it writes, or a Reply,
which it sends as it is.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.teacher_cache.image_server import Reply

KEY = "sk-chat-d0n0tleak0987654321"


def written(text: object, finish: str = "stop", **message: object) -> Reply:
    """Return a reply with a text, 40 tokens read and 10 written."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text} | message, "finish_reason": finish}
    usage = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
    return Reply(200, {"object": "chat.completion", "model": "tiny-1", "choices": [choice], "usage": usage})


class ChatServer(ThreadingHTTPServer):
    """`requested` counts the requests by text; `bodies` and `keys` (authorization headers) have one entry each."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, plan: Callable[[str, int], str | Reply]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.plan = plan
        self.requested: Counter[str] = Counter()
        self.bodies: list[dict[str, object]] = []
        self.keys: list[str] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    @property
    def spec(self) -> str:
        """The spec of its rewriter; the address is left out of the key, so that keys are the same in each run."""
        return f"openai:tiny?base_url={self.url}&as=test"

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.requested[text] += 1
            number = self.server.requested[text]
            self.server.bodies.append(body)
            self.server.keys.append(self.headers.get("authorization", ""))
        if self.path != "/v1/chat/completions":
            self._send(Reply(404, {"error": {"message": "no such path"}}))
            return
        answer = self.server.plan(text, number)
        self._send(written(answer) if isinstance(answer, str) else answer)

    def _send(self, reply: Reply) -> None:
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {"content-length": str(len(data)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Print nothing."""


def seen(text: str, number: int) -> str:
    """Write what a picture of a text shows."""
    return f"a scene of {text}"


@contextmanager
def chat_server(plan: Callable[[str, int], str | Reply] = seen) -> Iterator[ChatServer]:
    """Run a server until the end of the block."""
    server = ChatServer(plan)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
