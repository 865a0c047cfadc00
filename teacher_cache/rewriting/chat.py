"""A rewriter for the Chat Completions API of OpenAI and compatible servers: it posts the instruction and a text, and
receives the prompt that is drawn in the text's place.

One call is one attempt: only the build repeats a request, so that every call is counted. The API key is read from the
environment, sent to the given server only, and appears in no message, spec or file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from teacher_cache.registry.specs import Spec
from teacher_cache.rewriting import Rewritten, packed, unpacked
from teacher_cache.rewriting.chat_options import body_of, key_of, read_options
from teacher_cache.rewriting.chat_prices import Usage, read_chat_prices, usage_of
from teacher_cache.rewriting.chat_reply import parse_reply, text_of
from teacher_cache.teachers import Failure, Request
from teacher_cache.teachers.call_streak import Call, CallStreak
from teacher_cache.teachers.http_errors import HopelessError, classify, code_words, error_of, one_line
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, open_client, read_body
from teacher_cache.teachers.providers.presets import OPENAI
from teacher_cache.teachers.rate_limit import RateLimit

if TYPE_CHECKING:
    from httpx2 import Client

_LARGEST_REPLY = 4_000_000  # bytes
_TOO_LONG = ({"context", "length"}, {"string", "above", "max", "length"}, {"prompt", "too", "long"})
_ADVICE = {"temperature": "temperature=none", "seed": "seed=false"}  # by the field that a server does not take


class ChatRewriter:
    """`openai:MODEL[?base_url=...&instruction=...]`; `concurrency` calls in flight, each on its thread."""

    def __init__(self, spec: Spec) -> None:
        options, further = read_options(spec)
        self.spec: Mapping[str, Any] = key_of(spec, options, further)
        self._body = body_of(spec, options, further)
        self._url, self._instruction = options["base_url"], options["instruction"]
        self._seed, self._max_tokens = options["seed"], options["max_tokens"]
        self.concurrency = options["concurrency"]
        self._limits = Limits(options["timeout"], _LARGEST_REPLY)
        self._key_env = options["key_env"] or ("OPENAI_API_KEY" if self._url == OPENAI else "")
        self._key = ""
        self._rate_limit = RateLimit(options["rpm"])
        self._streak = CallStreak(self.concurrency)
        self._prices = read_chat_prices(
            spec.text, spec.model, price=options["price"], file=options["prices"], is_openai=self._url == OPENAI
        )
        self.price_usd = self.price_of("")

    def price_of(self, text: str) -> float | None:
        """Return the most dollars that the call for a text can cost, None if no price is known."""
        return self._prices.at_most(self._instruction + text, self._max_tokens)

    def rewrite(self, requests: Iterable[Request]) -> Iterator[Rewritten | Failure]:
        """Yield one answer per request, in the order of arrival.

        Raises HopelessError if the key is missing or no request can succeed, after all calls in flight have returned.
        """
        pending = iter(requests)
        self._streak.begin(self.concurrency)
        with self._client() as client, ThreadPoolExecutor(self.concurrency) as pool:
            in_flight: set[Future[Call]] = set()
            while True:
                while not self._streak.hopeless and len(in_flight) < self.concurrency and (one := next(pending, None)):
                    in_flight.add(pool.submit(self._call, client, one))
                if not in_flight:
                    break
                done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                for call in done:
                    yield from map(unpacked, self._streak.settle(call.result()))
        yield from map(unpacked, self._streak.end())
        if self._streak.hopeless:
            raise HopelessError(self._without_key(self._streak.hopeless))

    def _client(self) -> Client:
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if self._key_env and not (key and key.isascii() and key.isprintable()):
            raise HopelessError(
                f"the environment variable {self._key_env} is not set to an API key; expected that of {self._url}, "
                "for --rewrite"
            )
        self._key = key
        return open_client(self.concurrency, self._limits)

    def _call(self, client: Client, request: Request) -> Call:
        """Make one call, on its thread."""
        sent_at, started = self._rate_limit.wait(), time.monotonic()
        usage, hopeless = None, ""
        try:
            reply = self._reply(client, request)
            self._rate_limit.taken()
            usage = usage_of(reply)
            text = text_of(reply, self._max_tokens)
        except HopelessError as wrong:
            advice = f"; write {_ADVICE[wrong.param]} in the spec of --rewrite" if wrong.param in _ADVICE else ""
            hopeless = f"{wrong}{advice}"
            error = ReplyError("transient", hopeless, billed=False, turned_away=True)
        except ReplyError as found:
            error = found
            if error.turned_away and not error.unreachable:
                error.wait_s = self._rate_limit.turned_away(sent_at, error.wait_s)
        except Exception as unforeseen:  # what no one foresaw in one reply is no error of the others
            error = ReplyError("undecodable", f"{type(unforeseen).__name__}: {unforeseen}")
        else:
            seconds, cost = time.monotonic() - started, self._cost(request, usage)
            model = one_line(reply["model"]) if isinstance(reply.get("model"), str) else ""
            tokens = (usage.input, usage.output) if usage else (None, None)
            return Call([packed(Rewritten(request.image_key, text, cost, seconds, model, *tokens))])
        cost = self._cost(request, usage) if error.billed else (0.0 if self.price_usd is not None else None)
        wait_s = error.wait_s if error.reason == "transient" else None
        failure = Failure(
            request.image_key,
            error.reason,
            self._without_key(str(error)),
            cost,
            time.monotonic() - started,
            wait_s,
            turned_away=error.turned_away,
        )
        return Call([failure], error, hopeless)

    def _reply(self, client: Client, request: Request) -> Mapping[str, Any]:
        messages = [{"role": "system", "content": self._instruction}, {"role": "user", "content": request.prompt}]
        seed = {"seed": request.seed % 2**31} if self._seed else {}
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        body = {**self._body, **seed, "messages": messages}
        address = f"{self._url}/chat/completions"
        try:
            data = read_body(client, "POST", address, limits=self._limits, headers=headers, json=body)
        except StatusError as status:
            raise _error_of(status.status, status.headers, status.body) from None
        reply = parse_reply(data)
        if reply.get("error") and not reply.get("choices"):
            raise _error_of(200, {}, data)
        return reply

    def _cost(self, request: Request, usage: Usage | None) -> float | None:
        """Return what a call cost: by its usage, or else the most that it can."""
        return self._prices.cost_of(usage) if usage else self.price_of(request.prompt)

    def _without_key(self, message: str) -> str:
        return one_line(message.replace(self._key, "***") if self._key else message)


def _error_of(status: int, headers: Mapping[str, str], body: bytes) -> ReplyError:
    """Return the error of a reply, as of `classify`; a text that is too long for the model is the text's own fault."""
    found = error_of(body)
    if any(words <= code_words(code) for code in found.codes for words in _TOO_LONG):
        return ReplyError("permanent", f"HTTP {status}: {found.message}", billed=False)
    return classify(status, headers, body, datetime.now(timezone.utc))
