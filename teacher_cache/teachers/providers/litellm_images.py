"""A teacher for the providers that only litellm reaches: `litellm:PROVIDER/MODEL`. It is an optional package.

One call is one attempt: litellm's own retries, fallbacks and caches are off, so that every call is counted. Keys are
read from the environment by litellm, or from the variable that `key_env` names, and appear in no message or spec.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import ModuleType
from typing import TYPE_CHECKING, Any

from teacher_cache.errors import SpecError
from teacher_cache.format.pixels import picture_suffix
from teacher_cache.registry.packages import import_package
from teacher_cache.registry.specs import Spec
from teacher_cache.teachers import Failure, Picture, Request
from teacher_cache.teachers.call_streak import Call, CallStreak
from teacher_cache.teachers.http_errors import HopelessError, one_line
from teacher_cache.teachers.http_reply import Limits, ReplyError, open_client
from teacher_cache.teachers.openai_options import (
    BODY,
    KEY_BODY,
    OPTIONS,
    check_base_url,
    check_numbers,
    prices_of,
    server_of,
)
from teacher_cache.teachers.providers.body_options import body_of, split_options
from teacher_cache.teachers.providers.litellm_errors import reply_error
from teacher_cache.teachers.rate_limit import RateLimit
from teacher_cache.teachers.reply_pictures import read_picture, read_reply

if TYPE_CHECKING:
    from httpx2 import Client

_OPTIONS = {**OPTIONS, "base_url": "", "seed": ("false", "auto", "true"), "n": 1}
_ADVICE = "it is an option of litellm, and not of the provider"
_LITELLMS = (
    "api_base",
    "api_version",
    "base_url",
    "base_model",
    "cache",
    "caching",
    "callbacks",
    "client",
    "cooldown_time",
    "custom_llm_provider",
    "extra_headers",
    "fallbacks",
    "headers",
    "litellm_call_id",
    "litellm_logging_obj",
    "logger_fn",
    "max_retries",
    "metadata",
    "mock_response",
    "mock_timeout",
    "model_info",
    "n",
    "num_retries",
    "organization",
    "proxy_server_request",
    "request_timeout",
    "retry_policy",
    "retry_strategy",
    "timeout",
)
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS)$")


class LiteLLMImages:
    """`litellm:PROVIDER/MODEL[?size=1024x1024&body.NAME=VALUE]`; `concurrency` calls in flight, each on its thread."""

    def __init__(self, spec: Spec) -> None:
        if not spec.model:
            raise SpecError(f"{spec.text}: expected litellm:PROVIDER/MODEL, as litellm's documentation names them")
        plain, dotted = split_options(spec, ("body",))
        options = plain.options(_OPTIONS)
        check_numbers(spec.text, options)
        if options["n"] > 1:
            raise SpecError(f"{spec.text}: option n: litellm draws one picture per call; leave it out")
        named = {name: options[name] for name in BODY if options[name]}
        own = body_of(spec.text, dotted["body"], _reserved())
        self._base_url = check_base_url(spec.text, options["base_url"]) if options["base_url"] else ""
        self._arguments: dict[str, Any] = {**named, **own}
        self._seed, self._key_env, self._timeout_s = options["seed"], options["key_env"], options["timeout"]
        self.concurrency = options["concurrency"]
        self._limits = Limits(options["timeout"], options["max_mb"] * 1_000_000)
        self._rate_limit, self._streak = RateLimit(options["rpm"]), CallStreak(options["concurrency"])
        self.prices = prices_of(spec, options, "", provider="litellm")
        self.price_usd = self.prices.picture
        self.licence = options["licence"] or f"the terms of the provider of {spec.model}"
        self.if_identical = "write seed=auto: a seed is then sent for each further sample, and no key changes"
        self._model = spec.model
        self.spec: Mapping[str, Any] = {
            "kind": "litellm",
            **(server_of(spec, options, self._base_url) if options["as"] or self._base_url else {}),
            "model": spec.model,
            **{name: value for name, value in named.items() if name in KEY_BODY},
            **({"body": own} if own else {}),
            **({"revision": options["revision"]} if options["revision"] else {}),
            **({"seed": "from the image key"} if options["seed"] == "true" else {}),
        }

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request, in the order of arrival.

        Raises MissingPackageError without litellm, HopelessError if the key is missing or no request can succeed.
        """
        litellm, pending = _litellm(), iter(requests)
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if self._key_env and not key:
            raise HopelessError(f"the environment variable {self._key_env} is not set; expected an API key")
        self._streak.begin(self.concurrency)
        with open_client(self.concurrency, self._limits) as client, ThreadPoolExecutor(self.concurrency) as pool:
            in_flight: set[Future[Call]] = set()
            while True:
                while not self._streak.hopeless and len(in_flight) < self.concurrency and (one := next(pending, None)):
                    in_flight.add(pool.submit(self._call, litellm, client, key, one))
                if not in_flight:
                    break
                done, in_flight = wait(in_flight, return_when=FIRST_COMPLETED)
                for call in done:
                    yield from self._streak.settle(call.result())
        yield from self._streak.end()
        if self._streak.hopeless:
            raise HopelessError(self._streak.hopeless)

    def _call(self, litellm: ModuleType, client: Client, key: str, request: Request) -> Call:
        """Make one call, and return its answer."""
        sent_at, started, hopeless = self._rate_limit.wait(), time.monotonic(), ""
        try:
            picture, cost = self._picture(litellm, client, key, request)
            self._rate_limit.taken()
            price = self.prices.picture if cost is None else cost
            if price is not None and self.price_usd is not None:
                self.price_usd = max(self.price_usd, price)
            seconds = time.monotonic() - started
            return Call([Picture(request.image_key, picture, picture_suffix(picture) or "", price, seconds)])
        except HopelessError as stop:
            hopeless = _without_secrets(str(stop), key)
            error = ReplyError("transient", hopeless, billed=False, turned_away=True)
        except ReplyError as unusable:
            error = unusable
            if error.turned_away:
                error.wait_s = self._rate_limit.turned_away(sent_at, error.wait_s)
        except Exception as unforeseen:  # what no one foresaw in one reply is no error of the others
            error = ReplyError("undecodable", f"{type(unforeseen).__name__}: {unforeseen}")
        free = 0.0 if self.price_usd is not None else None
        failure = Failure(
            request.image_key,
            error.reason,
            _without_secrets(str(error), key),
            self.prices.picture if error.billed else free,
            time.monotonic() - started,
            error.wait_s if error.reason == "transient" else None,
            turned_away=error.turned_away,
        )
        return Call([failure], error, hopeless)

    def _picture(self, litellm: ModuleType, client: Client, key: str, request: Request) -> tuple[bytes, float | None]:
        """Return a picture and what it cost by its usage, or else by litellm's own table. Raises ReplyError."""
        arguments = dict(self._arguments)
        if self._seed == "true" or (self._seed == "auto" and request.sample):
            arguments["seed"] = request.seed % 2**31
        if self._base_url:
            arguments["api_base"] = self._base_url
        if key:
            arguments["api_key"] = key
        try:
            reply = litellm.image_generation(
                prompt=request.prompt,
                model=self._model,
                n=1,
                timeout=self._timeout_s,
                max_retries=0,
                num_retries=0,
                caching=False,
                **arguments,
            )
        except Exception as error:
            raise reply_error(error) from None
        facts = reply.model_dump(mode="json")
        stated = (getattr(reply, "_hidden_params", None) or {}).get("response_cost")
        found = read_reply(json.dumps({"data": facts.get("data") or []}).encode("utf-8"))
        if not found.entries:
            raise ReplyError("transient", "the provider drew no picture: the reply's data is empty", billed=False)
        cost = self.prices.cost_of(facts.get("usage") or {})
        if cost is None and self.prices.picture is None and isinstance(stated, (int, float)) and stated > 0:
            cost = float(stated)
        return read_picture(client, self._base_url or "https://localhost", found.entries[0], self._limits), cost


def _reserved() -> dict[str, str]:
    """Return the fields that are no `body.` option, and what to write instead."""
    return {
        **{name: f"write {name}=VALUE without body." for name in BODY},
        **{name: _ADVICE for name in _LITELLMS},
        "prompt": "it is the text of each row",
        "model": "write litellm:PROVIDER/MODEL",
        "seed": "each picture has a seed of its own; write seed=true or seed=auto",
        "stream": "pictures are not received in parts",
    }


def _litellm() -> ModuleType:
    """Import litellm, which otherwise loads a table of prices over the network and prints advice."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    os.environ.setdefault("LITELLM_MODE", "PRODUCTION")  # reads no .env file of the working folder
    warnings.filterwarnings("ignore", message=".*`ReadOnly` qualifier", category=UserWarning)  # of its own types
    litellm = import_package("litellm", distribution="litellm", extra="litellm", purpose="the teacher litellm")
    litellm.suppress_debug_info, litellm.telemetry = True, False  # type: ignore[attr-defined]
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # its log lines repeat requests
    return litellm


def _without_secrets(message: str, *secrets: str) -> str:
    """Return a message on one line without the values of the environment's keys."""
    keys = [value for name, value in os.environ.items() if len(value) >= 8 and _SECRET_NAME.search(name.upper())]
    for value in (*secrets, *keys):
        message = message.replace(value, "***") if value else message
    return one_line(message)
