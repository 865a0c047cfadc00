"""A teacher for the Images API of OpenAI and compatible servers: it posts a prompt and receives a picture, as base64 or
by URL.

One call is one attempt: only the build repeats a request, so that every call is counted. The API key is read from the
environment, sent to the given server only, and appears in no message, spec or file.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from teacher_cache.format.pixels import picture_suffix
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers import Failure, Picture, Request
from teacher_cache.teachers.call_streak import Call, CallStreak
from teacher_cache.teachers.http_errors import HopelessError, classify, one_line
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, open_client, read_body
from teacher_cache.teachers.providers.polling import Tasks, await_picture
from teacher_cache.teachers.providers.request_shape import request_shape
from teacher_cache.teachers.rate_limit import RateLimit
from teacher_cache.teachers.reply_pictures import Reply, read_picture, read_reply
from teacher_cache.workers import Workers

if TYPE_CHECKING:
    from httpx2 import Client

_QUICK_S = 0.25  # after a call that was quicker, some more are ready to be sent as soon as a thread is free


class OpenAIImages:
    """`openai:MODEL[?size=1024x1024&base_url=...]` or a preset's name; `concurrency` calls in flight, one a thread."""

    def __init__(self, spec: Spec) -> None:
        options, shape = request_shape(spec)
        self._shape, self._body, self._seed = shape, shape.body, shape.seed
        self._url, self._key_env, self._key = shape.server, shape.key_env, ""
        self._secrets: tuple[str, ...] = ()
        self._n, self.concurrency = options["n"], options["concurrency"]
        self._limits = Limits(options["timeout"], options["max_mb"] * 1_000_000)
        self._poll_s = float(options.get("poll", 0.0))
        self._rate_limit = RateLimit(options["rpm"])
        self._streak = CallStreak(self.concurrency)
        self.prices = shape.prices
        self.price_usd = self.prices.picture  # reserved before a call; raised if replies show that pictures cost more
        self.tasks: Tasks | None = None  # set by a build: what the server draws later
        self.licence = options["licence"] or f"the terms of {urlsplit(self._url).netloc}"
        self.if_identical = (
            "the server ignores the seeds that are sent; build with --samples 1"
            if self._seed != "false"
            else "leave out seed=false: a seed is then sent for each further sample, and no key changes"
        )
        self.spec: Mapping[str, Any] = shape.key_facts

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request, in the order of arrival.

        Raises HopelessError if the key is missing or no request can succeed, after all calls in flight have returned.
        """
        groups = _groups(requests, self._n)
        self._streak.begin(self.concurrency)
        with self._client() as client, Workers(self.concurrency, partial(self._call, client), "call") as calls:
            pulled, most = 0, self.concurrency  # requests, in flight or ready
            while True:
                while not self._streak.hopeless and pulled < most and (group := next(groups, None)):
                    pulled += 1
                    calls.put(group)
                if not pulled:
                    break
                call, pulled = calls.get(), pulled - 1
                is_quick = not call.error and call.answers[0].seconds < _QUICK_S
                most = self.concurrency + is_quick * self.concurrency // 8
                yield from self._streak.settle(call)
        yield from self._streak.end()
        if self._streak.hopeless:
            raise HopelessError(self._without_key(self._streak.hopeless))

    def _client(self) -> Client:
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if self._key_env and not key:
            raise HopelessError(
                f"the environment variable {self._key_env} is not set; expected the API key of {self._url}"
            )
        if not key.isascii() or not key.isprintable():
            raise HopelessError(
                f"the environment variable {self._key_env} holds no API key: expected printable ASCII characters"
            )
        if lacking := [name for name in self._shape.header_env.values() if not os.environ.get(name, "").strip()]:
            raise HopelessError(f"the environment variable {lacking[0]} is not set; header_env sends its value")
        self._key = key
        self._secrets = tuple(secret for secret in (key, *self._shape.headers("").values()) if secret)
        return open_client(self.concurrency, self._limits)

    def _call(self, client: Client, group: Sequence[Request]) -> Call:
        """Make one call, with an answer for each request of the group, whose prompt is the same."""
        sent_at = self._rate_limit.wait()

        def receive() -> tuple[list[bytes | ReplyError], float | None]:
            try:
                received = self._pictures(client, group)
            except ReplyError as error:
                if error.turned_away and not error.unreachable:
                    error.wait_s = self._rate_limit.turned_away(sent_at, error.wait_s)
                raise
            self._rate_limit.taken()
            return received

        return self.settled(group, receive)

    def settled(
        self, group: Sequence[Request], receive: Callable[[], tuple[list[bytes | ReplyError], float | None]]
    ) -> Call:
        """Return the answers to a group of requests with one prompt. `receive` returns the pictures of their reply and
        the cost of the whole call by its usage; it may raise ReplyError or HopelessError."""
        started = time.monotonic()
        pictures: list[bytes | ReplyError] = []
        error = ReplyError("transient", f"expected {len(group)} pictures in the reply, found fewer", billed=False)
        cost: float | None = None  # of the whole call, by its usage
        hopeless = ""
        try:
            pictures, cost = receive()
        except HopelessError as stop:
            advice = "; or add seed=false to the spec" if stop.param == "seed" else ""
            if not self._key and str(stop).startswith(("HTTP 401", "HTTP 403")):
                advice = "; no API key was sent: name the environment variable that contains it with key_env=VARIABLE"
            hopeless = self._without_key(f"{stop}{advice}")
            error = ReplyError("transient", hopeless, billed=False, turned_away=True)
        except ReplyError as unusable:
            error = unusable
        except Exception as unforeseen:  # what no one foresaw in one reply is no error of the others
            error = ReplyError("undecodable", f"{type(unforeseen).__name__}: {unforeseen}")
        seconds = (time.monotonic() - started) / len(group)
        price = self.prices.picture if cost is None else cost / len(pictures)
        if price is not None and self.price_usd is not None:
            self.price_usd = max(self.price_usd, price)
        answers: list[Picture | Failure] = []
        for request, picture in itertools.zip_longest(group, pictures):
            if isinstance(picture, bytes):
                answers.append(Picture(request.image_key, picture, picture_suffix(picture) or "", price, seconds))
            else:
                answers.append(
                    self._failure(
                        request, picture or error, price, seconds, is_part=bool(picture), has_usage=cost is not None
                    )
                )
        if any(isinstance(picture, bytes) for picture in pictures):
            return Call(answers)
        return Call(answers, next((part for part in pictures if isinstance(part, ReplyError)), error), hopeless)

    def _failure(
        self,
        request: Request,
        error: ReplyError,
        price: float | None,
        seconds: float,
        *,
        is_part: bool,
        has_usage: bool,
    ) -> Failure:
        """Return the failure of one request: of the whole call, or (`is_part`) of one picture in its reply, which may
        state its usage. A picture that may have been paid for is not requested again in this build."""
        is_paid = error.billed or (is_part and has_usage)
        free = 0.0 if self.price_usd is not None or self.prices.tokens else None
        is_repeated = error.reason == "transient" and not (is_part and is_paid)
        return Failure(
            request.image_key,
            error.reason,
            self._without_key(str(error)),
            price if is_paid else free,
            seconds,
            error.wait_s if is_repeated else None,
            turned_away=error.turned_away,
        )

    def _without_key(self, message: str) -> str:
        for secret in self._secrets:
            message = message.replace(secret, "***")
        return one_line(message)

    def _pictures(self, client: Client, group: Sequence[Request]) -> tuple[list[bytes | ReplyError], float | None]:
        """Make one call. Return the reply's pictures in its order, with an error in place of an unusable one, and the
        cost of the call by its usage."""
        body, headers, address = self.body_of(group), self._shape.headers(self._key), self._shape.address
        key, polls = group[0].image_key, bool(self._shape.preset.poll)
        task = self.tasks.get(key) if polls and self.tasks else None  # of a build that was killed: it is paid for
        try:
            data = task or read_body(client, "POST", address, limits=self._limits, headers=headers, json=body)
        except StatusError as status:
            raise classify(status.status, status.headers, status.body, datetime.now(timezone.utc)) from None
        reply = self._awaited(client, data, headers, key) if polls else read_reply(data)
        pictures, cost = self.pictures_in(client, reply, data, len(group))
        return pictures, 0.0 if task and self.price_usd is not None else cost

    def body_of(self, group: Sequence[Request]) -> dict[str, Any]:
        """Return the JSON body that requests the pictures of a group, whose prompt is the same."""
        body = {**self._body, "prompt": group[0].prompt}
        if len(group) > 1:
            body["n"] = len(group)
        if self._seed == "true" or (self._seed == "auto" and any(request.sample for request in group)):
            body["seed"] = group[0].seed % 2**31
        return body

    def pictures_in(
        self, client: Client, reply: Reply, data: bytes, most: int
    ) -> tuple[list[bytes | ReplyError], float | None]:
        """Return up to `most` pictures of a reply, whose bytes are `data`, in its order, with an error in place of an
        unusable one, and the cost of the call by its usage. Raises ReplyError or HopelessError if it is an error."""
        if reply.is_error:
            raise classify(200, {}, data, datetime.now(timezone.utc))
        if not reply.entries:
            raise ReplyError("transient", "the server drew no picture: the reply's data is empty", billed=False)
        pictures: list[bytes | ReplyError] = []
        for entry in reply.entries[:most]:
            try:
                pictures.append(read_picture(client, self._shape.address, entry, self._limits))
            except ReplyError as error:
                pictures.append(error)
        return pictures, self.prices.cost_of(reply.usage) if reply.cost_usd is None else reply.cost_usd

    def _awaited(self, client: Client, task: bytes, headers: Mapping[str, str], key: str) -> Reply:
        preset = self._shape.preset
        assert preset.poll
        return await_picture(
            client,
            self._shape.address,
            task,
            preset.poll,
            tasks=self.tasks,
            image_key=key,
            headers=headers,
            key_domain=preset.key_domain,
            limits=self._limits,
            every_s=self._poll_s,
        )


def _groups(requests: Iterable[Request], n: int) -> Iterator[list[Request]]:
    """Yield the requests in groups of up to n consecutive ones that have the same prompt."""
    if n == 1:
        yield from ([request] for request in requests)
        return
    for _, same in itertools.groupby(requests, key=lambda request: request.prompt):
        while group := list(itertools.islice(same, n)):
            yield group
