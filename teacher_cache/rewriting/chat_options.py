"""The options of the chat rewriter: the server, the fields of a request's body, and the spec that names it in keys."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec
from teacher_cache.rewriting.instructions import DEFAULT, read_instruction
from teacher_cache.teachers.openai_options import check_base_url, check_numbers, server_of
from teacher_cache.teachers.providers.presets import OPENAI

OPTIONS = {
    "base_url": OPENAI,
    "as": "",  # the server's name in the key, in place of its address
    "revision": "",  # the user's own name for the server's model version: part of the key
    "instruction": DEFAULT,
    "temperature": "0",  # or none: it is not sent
    "seed": True,  # whether to send the text's own seed
    "max_tokens": 500,  # of an answer; a longer one is a failure, so that this is not part of the key
    "concurrency": 8,
    "rpm": 0.0,  # requests per minute; 0 is no limit
    "timeout": 120.0,  # seconds per call, until its last byte
    "key_env": "",  # the environment variable with the API key; OPENAI_API_KEY for OpenAI's own server
    "price": "",  # dollars per text
    "prices": "",  # or a YAML file in the form of chat_prices.yaml
}
_BODY = "body."
_OWN_FIELDS = ("model", "messages", "stream", "n", "seed", "temperature", "max_tokens", "max_completion_tokens")


def read_options(spec: Spec) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options, and the further fields of the body that `body.NAME=VALUE` sets: values are JSON, or texts.

    Raises SpecError if the spec has no model or an option is wrong.
    """
    if not spec.model:
        raise SpecError(f"{spec.text}: expected openai:MODEL, for example openai:gpt-4.1-mini")
    given = {name.removeprefix(_BODY): value for name, value in spec.params.items() if name.startswith(_BODY)}
    if own := sorted(set(given) & {*_OWN_FIELDS, ""}):
        raise SpecError(f"{spec.text}: option {_BODY}{own[0]}: expected a field of the server's own; see the options")
    rest = {name: value for name, value in spec.params.items() if not name.startswith(_BODY)}
    options = replace(spec, params=rest).options(OPTIONS)
    check_numbers(spec.text, options | {"n": 1, "max_mb": 1})
    if options["max_tokens"] < 1:
        raise SpecError(f"{spec.text}: option max_tokens expects a number from 1 on, found {options['max_tokens']}")
    if options["temperature"] == "none":
        options["temperature"] = None
    else:
        options["temperature"] = _temperature(spec.text, options["temperature"])
    options["base_url"] = check_base_url(spec.text, options["base_url"])
    options["instruction"] = read_instruction(spec.text, options["instruction"])
    return options, {name: _value(spec.text, name, value) for name, value in given.items()}


def body_of(spec: Spec, options: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request's body besides its messages and its seed."""
    limit = "max_completion_tokens" if options["base_url"] == OPENAI else "max_tokens"
    temperature = {} if options["temperature"] is None else {"temperature": options["temperature"]}
    return {"model": spec.model, **temperature, limit: options["max_tokens"], **further}


def key_of(spec: Spec, options: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rewriter's spec: all that changes what it writes."""
    return {
        "kind": "openai-chat",
        **server_of(spec, options, options["base_url"]),
        "model": spec.model,
        "instruction": options["instruction"],
        **({} if options["temperature"] is None else {"temperature": options["temperature"]}),
        **({"seed": "from the rewrite key"} if options["seed"] else {}),
        **({"revision": options["revision"]} if options["revision"] else {}),
        **({"body": dict(further)} if further else {}),
    }


def _temperature(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise SpecError(f"{text}: option temperature expects a number from 0 on, or none, found {value!r}")
    return number


def _value(text: str, name: str, value: str) -> Any:
    try:
        found = json.loads(value)
        json.dumps(found, allow_nan=False)
        return found
    except RecursionError:
        raise SpecError(f"{text}: option {_BODY}{name}: expected JSON or a text, found it nested too deep") from None
    except ValueError:
        return value
