"""`openai-batch:MODEL`: the openai teacher, whose requests are sent in batches, at half the price.

Its spec is that of `openai:MODEL` with the same options: a picture has the same key, however it was bought.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from teacher_cache.errors import ArmadaError, SpecError
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers import Failure, Picture, Request, Teacher
from teacher_cache.teachers.call_streak import Call
from teacher_cache.teachers.http_errors import classify
from teacher_cache.teachers.http_reply import ReplyError
from teacher_cache.teachers.openai_images import OpenAIImages
from teacher_cache.teachers.prices import batch_prices
from teacher_cache.teachers.reply_pictures import read_reply

if TYPE_CHECKING:
    from datetime import datetime

    from httpx2 import Client

OPTIONS = {
    "poll": 60.0,  # seconds between two looks at the batches
    "rows": 5000,  # pictures per batch, at most
}
MOST_REQUESTS = 50_000  # per file
MOST_BYTES = 200_000_000
PATH = "/v1/images/generations"  # as a line of the file names the endpoint


class OpenAIBatch(OpenAIImages):
    """`openai-batch:MODEL[?poll=60&rows=5000&...]`, with the options of `openai:MODEL`. `price` and `prices` are those
    of a picture that is bought online."""

    def __init__(self, spec: Spec) -> None:
        if not spec.model:
            raise SpecError(f"{spec.text}: expected openai-batch:MODEL, for example openai-batch:gpt-image-1-mini")
        own = replace(spec, params={name: value for name, value in spec.params.items() if name in OPTIONS})
        options = own.options(OPTIONS)
        if not 0.001 <= options["poll"] < math.inf:
            raise SpecError(f"{spec.text}: option poll expects seconds from 0.001 on, found {options['poll']!r}")
        if not 1 <= options["rows"] <= MOST_REQUESTS:
            raise SpecError(f"{spec.text}: option rows expects 1 to {MOST_REQUESTS}, found {options['rows']!r}")
        rest = {name: value for name, value in spec.params.items() if name not in OPTIONS}
        super().__init__(replace(spec, kind="openai", params=rest))
        self.poll_s, self.rows = options["poll"], options["rows"]
        self.prices = replace(batch_prices(self.prices), batch=False)
        self.price_usd = self.prices.picture

    @property
    def url(self) -> str:
        """The server's base URL."""
        return self._url

    @property
    def query(self) -> str:
        """The query of every address, without its question mark: the options `query.NAME`."""
        return urlsplit(self._shape.address).query

    @property
    def per_request(self) -> int:
        """The number of pictures of one prompt that a request may ask for."""
        return int(self._n)

    @property
    def seconds(self) -> float:
        """How long one request to the server may take."""
        return self._limits.seconds

    @property
    def longest_line(self) -> int:
        """The bytes of a result that are read, at most."""
        return self._limits.bytes * 4 // 3 + 65_536

    def client(self) -> tuple[Client, dict[str, str]]:
        """Return an open HTTP client and the headers of requests. Raises HopelessError if the key is missing."""
        client = self._client()
        return client, self._shape.headers(self._key)

    def without_key(self, message: str) -> str:
        """Return a message on one line, with the API key blotted out."""
        return self._without_key(message)

    def line_of(self, group: Sequence[Request]) -> bytes:
        """Return the line of a batch's file that requests the pictures of a group, whose prompt is the same."""
        facts = {"custom_id": group[0].image_key, "method": "POST", "url": PATH, "body": self.body_of(group)}
        return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode("utf-8") + b"\n"

    def answers_of(
        self, client: Client, group: Sequence[Request], status: int, body: Mapping[str, Any], now: datetime
    ) -> Call:
        """Return the answers in one line of a batch's results, read as the online teacher reads its reply."""
        data = json.dumps(body).encode("utf-8")

        def receive() -> tuple[list[bytes | ReplyError], float | None]:
            if status != 200:
                raise classify(status, {}, data, now)
            return self.pictures_in(client, read_reply(data), data, len(group))

        call = self.settled(group, receive)
        return replace(call, answers=[replace(answer, seconds=0.0) for answer in call.answers])

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Raise ArmadaError: batches are sent by a build only."""
        raise ArmadaError("openai-batch draws in builds only; use openai:MODEL, whose pictures have the same keys")


def sends_batches(teacher: Teacher) -> bool:
    """Return whether a teacher's pictures come hours later, in batches."""
    return isinstance(teacher, OpenAIBatch)
