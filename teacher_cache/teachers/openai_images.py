"""A teacher for the Images API of OpenAI and compatible servers: it posts a prompt and receives a picture, as base64 or
by URL.

One call is one attempt: only the build repeats a request, so that every call is counted. The API key is read from the
environment, sent to the given server only, and appears in no message, spec or file.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers import Failure, Picture, Request
from teacher_cache.teachers.http_errors import HopelessError, one_line, reason_of
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, open_client, read_body
from teacher_cache.teachers.openai_options import BODY, OPENAI, OPTIONS, check_base_url, price_usd
from teacher_cache.teachers.rate_limit import RateLimit

if TYPE_CHECKING:
    from httpx2 import Client

_SUFFIXES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF", "webp"))
_MAX_ERRORS = 30  # consecutive failed calls, besides two per call in flight, after which the build stops
_PAUSE_S = 1.0  # of all threads after a 429 without Retry-After


class OpenAIImages:
    """`openai:MODEL[?size=1024x1024&quality=low&base_url=...]`; `concurrency` calls in flight, each on its thread."""

    def __init__(self, spec: Spec) -> None:
        options = spec.options(OPTIONS)
        if not spec.model:
            raise SpecError(f"{spec.text}: expected openai:MODEL, for example openai:gpt-image-1")
        self._url = check_base_url(spec.text, options["base_url"])
        self._body = {"model": spec.model, **{name: options[name] for name in BODY if options[name]}}
        self._sends_seed = options["seed"]
        self._n, self.concurrency = max(1, options["n"]), max(1, options["concurrency"])
        self._limits = Limits(options["timeout"], options["max_mb"] * 1_000_000)
        self._key_env = options["key_env"] or ("OPENAI_API_KEY" if self._url == OPENAI else "")
        self._errors, self._hopeless, self._key = 0, "", ""  # consecutive failed calls; why the build stops; API key
        self._rate_limit = RateLimit(options["rpm"])
        self.price_usd = price_usd(spec, options)
        self.licence = options["licence"] or f"the terms of {urlsplit(self._url).netloc}"
        self.spec: Mapping[str, Any] = {
            "kind": "openai",
            "endpoint": self._url,
            **self._body,
            **({"revision": options["revision"]} if options["revision"] else {}),
            **({"seed": "from the image key"} if self._sends_seed else {}),
        }

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request, in the order of arrival.

        Raises HopelessError if the key is missing or no request can succeed, after all calls in flight have returned.
        """
        groups = _groups(requests, self._n)
        self._hopeless = ""
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as pool:
            in_flight: set[Future[list[Picture | Failure]]] = set()
            while True:
                while not self._hopeless and len(in_flight) < self.concurrency and (group := next(groups, None)):
                    in_flight.add(pool.submit(self._answers, client, group))
                if not in_flight:
                    break
                done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                for call in done:
                    yield from call.result()
        if self._hopeless:
            raise HopelessError(self._hopeless)

    def _client(self) -> Client:
        key = os.environ.get(self._key_env, "") if self._key_env else ""
        if self._key_env and not key:
            raise HopelessError(
                f"the environment variable {self._key_env} is not set; expected the API key of {self._url}"
            )
        self._key = key
        return open_client(self.concurrency, self._limits)

    def _answers(self, client: Client, group: Sequence[Request]) -> list[Picture | Failure]:
        """Make one call and return an answer for each request of the group, whose prompt is the same."""
        self._rate_limit.wait()
        started = time.monotonic()
        pictures: list[bytes | ReplyError] = []
        error = ReplyError("transient", f"expected {len(group)} pictures in the reply, found fewer")
        cost, wait_s = None if self.price_usd is None else 0.0, 0.0
        try:
            pictures = self._pictures(client, group)
            self._errors = 0
        except StatusError as status:
            error, wait_s = self._classify(status)
        except ReplyError as unusable:
            error, cost = unusable, self.price_usd if unusable.sent else cost  # the server may bill what was sent
        if not pictures:
            self._count_error(error)
        seconds = (time.monotonic() - started) / len(group)
        answers: list[Picture | Failure] = []
        for request, picture in itertools.zip_longest(group, pictures):
            if isinstance(picture, bytes):
                answers.append(Picture(request.image_key, picture, _suffix(picture), self.price_usd, seconds))
                continue
            cause, paid = (picture, self.price_usd) if picture else (error, cost)
            retry_after_s = wait_s if cause.reason == "transient" and not picture else None
            message = self._without_key(str(cause))
            answers.append(Failure(request.image_key, cause.reason, message, paid, seconds, retry_after_s))
        return answers

    def _classify(self, status: StatusError) -> tuple[ReplyError, float]:
        """Return the error that a status stands for, and the seconds that the server asks to wait."""
        try:
            reason, message, wait_s = reason_of(status.status, status.headers, status.body, datetime.now(timezone.utc))
        except HopelessError as hopeless:
            self._hopeless = self._without_key(str(hopeless))
            return ReplyError("transient", self._hopeless), 0.0
        if status.status == 429:
            self._rate_limit.pause(wait_s or _PAUSE_S)
        return ReplyError(reason, message), wait_s

    def _count_error(self, error: ReplyError) -> None:
        """Stop the build after many consecutive errors that are not due to a prompt: a wrong option, a dead server."""
        self._errors = 0 if error.reason == "refused" else self._errors + 1
        if self._errors > _MAX_ERRORS + 2 * self.concurrency:
            self._hopeless = self._without_key(f"{self._errors} calls in a row failed, the last one with: {error}")

    def _without_key(self, message: str) -> str:
        return one_line(message.replace(self._key, "***") if self._key else message)

    def _pictures(self, client: Client, group: Sequence[Request]) -> list[bytes | ReplyError]:
        """Make one call; return the reply's pictures in its order, with an error in place of an unusable one."""
        body = {**self._body, "prompt": group[0].prompt}
        if len(group) > 1:
            body["n"] = len(group)
        if self._sends_seed:
            body["seed"] = group[0].seed % 2**31
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        reply = read_body(
            client, "POST", f"{self._url}/images/generations", limits=self._limits, headers=headers, json=body
        )
        try:
            entries = json.loads(reply)["data"]
        except (ValueError, KeyError, TypeError):
            raise ReplyError("undecodable", f"expected JSON with data, found {reply[:60]!r}") from None
        if not isinstance(entries, list) or not entries:
            raise ReplyError("undecodable", "expected pictures under data, found none")
        return [self._picture(client, entry) for entry in entries[: len(group)]]

    def _picture(self, client: Client, entry: Any) -> bytes | ReplyError:
        """Return the picture of one entry of the reply's `data`, or why it cannot be used."""
        try:
            encoded, url = entry.get("b64_json"), str(entry.get("url") or "")
            if not encoded and url.startswith("data:"):
                encoded = url.partition(",")[2]
            picture = base64.b64decode(encoded, validate=True) if encoded else self._fetch(client, url)
            _suffix(picture)
        except (AttributeError, TypeError, binascii.Error) as error:
            return ReplyError("undecodable", f"no readable picture in the reply: {error}")
        except ReplyError as error:
            return error
        return picture

    def _fetch(self, client: Client, url: str) -> bytes:
        """Download a picture that the reply gives by URL, without sending the key. It is paid for, so the download is
        tried three times."""
        secure = urlsplit(self._url).scheme == "https"
        if urlsplit(url).scheme not in (("https",) if secure else ("https", "http")):
            raise ReplyError("undecodable", f"expected the URL of a picture, found {one_line(url)!r}")
        for attempt in (1, 2, 3):
            try:
                return read_body(client, "GET", url, limits=self._limits)
            except (StatusError, ReplyError) as error:
                final = error.status < 500 if isinstance(error, StatusError) else error.reason != "transient"
                if attempt == 3 or final:
                    raise ReplyError("transient", f"the picture's URL could not be fetched: {error}") from None
                time.sleep(0.5 * attempt)
        raise AssertionError


def _groups(requests: Iterable[Request], n: int) -> Iterator[list[Request]]:
    """Yield the requests in groups of up to n consecutive ones that have the same prompt."""
    if n == 1:
        yield from ([request] for request in requests)
        return
    for _, same in itertools.groupby(requests, key=lambda request: request.prompt):
        while group := list(itertools.islice(same, n)):
            yield group


def _suffix(picture: bytes) -> str:
    for start, suffix in _SUFFIXES:
        if picture.startswith(start):
            return suffix
    raise ReplyError("undecodable", f"expected a PNG, JPEG or WebP, found {picture[:20]!r}")
