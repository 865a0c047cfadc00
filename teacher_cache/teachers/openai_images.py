"""The Images API of OpenAI and of compatible servers: a prompt is posted, a picture comes back as base64 or by URL.

One call is one attempt: the build decides what is asked again, so that every call is counted. The key comes from the
environment, goes to the named server alone, and is in no message, spec or file.
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
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers import Failure, Picture, Request
from teacher_cache.teachers.http_errors import HopelessError, one_line, reason_of
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, open_client, read_body
from teacher_cache.teachers.rate_limit import RateLimit

OPENAI = "https://api.openai.com/v1"
_BODY = {  # sent as they are where given; they decide the picture
    "size": "",
    "quality": "",
    "style": "",
    "background": "",
    "moderation": "",
    "output_format": "",
    "output_compression": 0,
    "response_format": "",
}
_OPTIONS = {
    **_BODY,
    "base_url": OPENAI,
    "revision": "",  # a name of your own for the server's model version: part of the key
    "seed": False,  # sends each picture's own seed, where the server takes one
    "n": 1,  # pictures of one prompt a call, with --samples
    "concurrency": 8,
    "rpm": 0.0,  # requests a minute, 0 is no limit
    "timeout": 300.0,  # seconds a call, to its last byte
    "max_mb": 50,  # the largest body taken
    "key_env": "",  # the variable that holds the key; OPENAI_API_KEY for OpenAI's own server
    "price": "",  # dollars a picture
    "prices": "",  # or a YAML file: {model: {"1024x1024 high": 0.167, default: 0.04}}
    "licence": "",
}
_SUFFIXES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpg"), (b"RIFF", "webp"))
_MISSES = 30
_PAUSE_S = 1.0  # for everybody after a 429 that doesn't say how long


class OpenAIImages:
    """`openai:MODEL[?size=1024x1024&quality=low&base_url=...]`; `concurrency` calls in flight, each in a thread."""

    def __init__(self, spec: Spec) -> None:
        options = spec.options(_OPTIONS)
        if not spec.model:
            raise SpecError(f"{spec.text}: expected openai:MODEL, for example openai:gpt-image-1")
        self._url = _base_url(spec.text, options["base_url"])
        self._body = {"model": spec.model, **{name: options[name] for name in _BODY if options[name]}}
        self._sends_seed = options["seed"]
        self._n, self.concurrency = max(1, options["n"]), max(1, options["concurrency"])
        self._limits = Limits(options["timeout"], options["max_mb"] * 1_000_000)
        self._key_env = options["key_env"] or ("OPENAI_API_KEY" if self._url == OPENAI else "")
        self._misses, self._hopeless, self._key = 0, "", ""
        self._pace = RateLimit(options["rpm"])
        self.price_usd = _price(spec, options)
        self.licence = options["licence"] or f"the terms of {urlsplit(self._url).netloc}"
        self.spec: Mapping[str, Any] = {
            "kind": "openai",
            "endpoint": self._url,
            **self._body,
            **({"revision": options["revision"]} if options["revision"] else {}),
            **({"seed": "from the image key"} if self._sends_seed else {}),
        }

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """One answer a request, as they come. Raises HopelessError once what is in flight has been answered."""
        groups = _groups(requests, self._n)
        self._hopeless = ""
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as pool:
            flying: set[Future[list[Picture | Failure]]] = set()
            while True:
                while not self._hopeless and len(flying) < self.concurrency and (group := next(groups, None)):
                    flying.add(pool.submit(self._answers, client, group))
                if not flying:
                    break
                done, flying = wait(flying, return_when=FIRST_COMPLETED)
                for call in done:
                    yield from call.result()
        if self._hopeless:
            raise HopelessError(self._hopeless)

    def _client(self) -> Any:
        key = os.environ.get(self._key_env, "") if self._key_env else ""
        if self._key_env and not key:
            raise HopelessError(f"the environment variable {self._key_env} is not set; it holds the key of {self._url}")
        self._key = key
        return open_client(self.concurrency, self._limits)

    def _answers(self, client: Any, group: Sequence[Request]) -> list[Picture | Failure]:
        """One call, and an answer for each request of one prompt."""
        self._pace.wait()
        started = time.monotonic()
        pictures: list[bytes | ReplyError] = []
        error, cost, wait_s = ReplyError("transient", f"fewer than {len(group)} pictures came"), self._cost(0.0), 0.0
        try:
            pictures = self._pictures(client, group)
            self._misses = 0
        except StatusError as answer:
            error, wait_s = self._meaning(answer)
        except ReplyError as unusable:
            error, cost = unusable, self.price_usd if unusable.sent else cost  # sent: the server may have done the work
        if not pictures:
            self._count_miss(error)
        seconds = (time.monotonic() - started) / len(group)
        answers: list[Picture | Failure] = []
        for request, picture in itertools.zip_longest(group, pictures):
            if isinstance(picture, bytes):
                answers.append(Picture(request.image_key, picture, _suffix(picture), self.price_usd, seconds))
                continue
            why, paid = (picture, self.price_usd) if picture else (error, cost)
            again = wait_s if why.reason == "transient" and not picture else None
            answers.append(Failure(request.image_key, why.reason, self._clean(str(why)), paid, seconds, again))
        return answers

    def _meaning(self, answer: StatusError) -> tuple[ReplyError, float]:
        """What an error status says, and the seconds that it asks to wait."""
        try:
            reason, message, wait_s = reason_of(answer.status, answer.headers, answer.body, datetime.now(timezone.utc))
        except HopelessError as hopeless:
            self._hopeless = self._clean(str(hopeless))
            return ReplyError("transient", self._hopeless), 0.0
        if answer.status == 429:
            self._pace.pause(wait_s or _PAUSE_S)
        return ReplyError(reason, message), wait_s

    def _count_miss(self, error: ReplyError) -> None:
        """So many answers in a row that no prompt can be blamed for: a wrong option, a dead server."""
        self._misses = 0 if error.reason == "refused" else self._misses + 1
        if self._misses > _MISSES + 2 * self.concurrency:
            self._hopeless = self._clean(f"{self._misses} calls in a row failed, the last with: {error}")

    def _clean(self, message: str) -> str:
        return one_line(message.replace(self._key, "***") if self._key else message)

    def _cost(self, usd: float) -> float | None:
        """What a call cost, or None where there is no price."""
        return None if self.price_usd is None else usd

    def _pictures(self, client: Any, group: Sequence[Request]) -> list[bytes | ReplyError]:
        """The pictures of one call, in the reply's order."""
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

    def _picture(self, client: Any, entry: Any) -> bytes | ReplyError:
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

    def _fetch(self, client: Any, url: str) -> bytes:
        """A picture that the reply names by URL, before the provider purges it; the key is not sent. It is paid, so it
        is fetched three times before it is given up."""
        secure = urlsplit(self._url).scheme == "https"
        if urlsplit(url).scheme not in (("https",) if secure else ("https", "http")):
            raise ReplyError("undecodable", f"expected a picture's URL, found {one_line(url)!r}")
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
    """Requests one by one, or up to n neighbours of one prompt."""
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


def _base_url(text: str, url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.query:
        raise SpecError(f"{text}: base_url expects http(s)://HOST/PATH without user, password or query, found {url!r}")
    return url.rstrip("/")


def _price(spec: Spec, options: Mapping[str, Any]) -> float | None:
    """Dollars a picture: the option `price`, or the entry of the table `prices` that says most about this spec."""
    if options["price"]:
        try:
            return float(options["price"])
        except ValueError:
            raise SpecError(
                f"{spec.text}: option price expects dollars a picture, found {options['price']!r}"
            ) from None
    if not options["prices"]:
        return None
    import yaml

    try:
        table = yaml.safe_load(Path(options["prices"]).read_text("utf-8"))[spec.model]
        size, quality = options["size"], options["quality"]
        names = (f"{size} {quality}", size, quality, "default")
        return float(next(table[name] for name in names if name in table))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, StopIteration):
        found = f"{options['prices']}: expected {{{spec.model}: {{'SIZE QUALITY' or default: dollars a picture}}}}"
        raise SpecError(f"{spec.text}: {found}") from None
