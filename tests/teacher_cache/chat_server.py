"""An OpenAI-compatible chat server on the loopback interface that rewrites texts and misbehaves on demand.

`plan(text, n)` returns how the server treats the n-th request (from 1) for a text: the text that it writes, or a Reply,
which it sends as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.teacher_cache.image_server import Reply
from tests.teacher_cache.loopback import LoopbackHandler, LoopbackServer, running

KEY = "sk-chat-d0n0tleak0987654321"


def written(text: object, finish: str = "stop", **message: object) -> Reply:
    """Return a reply with a text, 40 tokens read and 10 written."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text} | message, "finish_reason": finish}
    usage = {"prompt_tokens": 40, "completion_tokens": 10, "total_tokens": 50}
    return Reply(200, {"object": "chat.completion", "model": "tiny-1", "choices": [choice], "usage": usage})


class ChatServer(LoopbackServer):
    """`requested` counts the requests by text; `bodies` and `keys` (authorization headers) have one entry each."""

    def __init__(self, plan: Callable[[str, int], str | Reply]) -> None:
        super().__init__(_Handler)
        self.plan = plan
        self.requested: Counter[str] = Counter()
        self.bodies: list[dict[str, object]] = []
        self.keys: list[str] = []

    @property
    def spec(self) -> str:
        """The spec of its rewriter; the address is left out of the key, so that keys are the same in each run."""
        return f"openai:tiny?base_url={self.url}&as=test"


class _Handler(LoopbackHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.read_body())
        text = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.requested[text] += 1
            number = self.server.requested[text]
            self.server.bodies.append(body)
            self.server.keys.append(self.headers.get("authorization", ""))
        if self.path != "/v1/chat/completions":
            self.send(404, {"error": {"message": "no such path"}})
            return
        answer = self.server.plan(text, number)
        reply = written(answer) if isinstance(answer, str) else answer
        self.send(reply.status, reply.body, reply.headers)


def seen(text: str, number: int) -> str:
    """Write what a picture of a text shows."""
    return f"a scene of {text}"


def chat_server(plan: Callable[[str, int], str | Reply] = seen) -> AbstractContextManager[ChatServer]:
    """Run a server until the end of the block."""
    return running(ChatServer(plan))
