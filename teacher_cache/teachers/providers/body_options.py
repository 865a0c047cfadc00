"""The options `body.NAME=VALUE`, `query.NAME=VALUE` and `header_env.NAME=VARIABLE`, by which any server's own options
are sent. Values are typed; a secret can't be one of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec

_SECRET = re.compile(
    r"(^|[-_.])(api[-_]?key|key|token|secret|password|passwd|authorization|auth|credential|credentials|signature|sig|"
    r"code|bearer|cookie)$|apikey|accesstoken",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"(?i)^(bearer|basic|key)\s+\S|^(sk|xai|tgp_v1|hf|gsk|r8)[-_][\w-]{16,}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def split_options(spec: Spec, prefixes: Iterable[str]) -> tuple[Spec, dict[str, dict[str, str]]]:
    """Return the spec without the options that begin with one of the prefixes and a dot, and these, by prefix and by
    the name after the dot."""
    found: dict[str, dict[str, str]] = {prefix: {} for prefix in prefixes}
    rest: dict[str, str] = {}
    for option, value in spec.params.items():
        prefix, dot, name = option.partition(".")
        if dot and prefix in found:
            found[prefix][name] = value
        else:
            rest[option] = value
    return Spec(spec.kind, spec.model, rest, spec.text), found


def body_of(text: str, given: Mapping[str, str], reserved: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of `body.` options as JSON values. Dots in a name lead into objects.

    A value that is JSON (a number, true, false, null, "quoted", [list], {object}) is that, any other is a string; so
    the string 1 is written "1". `reserved` maps the fields that the teacher sets to what to write instead. Raises
    SpecError, naming the spec `text`.
    """
    body: dict[str, Any] = {}
    for name in sorted(given):
        first, *inner = name.split(".")
        if first in reserved:
            raise SpecError(f"{text}: body.{name}: the teacher sets {first} itself; {reserved[first]}")
        if not all([first, *inner]):
            raise SpecError(f"{text}: option 'body.{name}': expected body.NAME=VALUE, or body.NAME.NAME=VALUE")
        value = typed(text, f"body.{name}", given[name])
        _check_no_secret(text, f"body.{name}", value)
        if whole := next((parent for parent in _parents(name) if parent in given), ""):
            raise SpecError(f"{text}: body.{name}: body.{whole} is given as a whole too; write one of them")
        place = body
        for part in [first, *inner][:-1]:
            place = place.setdefault(part, {})
        place[[first, *inner][-1]] = value
    return body


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def typed(text: str, option: str, value: str) -> Any:
    """Return an option's value as JSON if it is that, else as the string that it is. A whole number is one, also if
    it is written 7.0. Raises SpecError for a number that JSON does not have."""
    try:
        found = json.loads(value, parse_constant=_refuse_constant)
    except RecursionError:
        raise SpecError(f"{text}: option {option}: too many brackets") from None
    except ValueError as error:
        if isinstance(error, json.JSONDecodeError):
            return value
        raise SpecError(f"{text}: option {option}: {error}") from None
    return _canonical(text, option, found)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f'expected a number of JSON, found {name}; write "{name}" for the word')


def _canonical(text: str, option: str, value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise SpecError(f"{text}: option {option} expects a finite number")
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, dict):
        return {name: _canonical(text, option, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(text, option, inner) for inner in value]
    return value


def query_of(text: str, given: Mapping[str, str], reserved: Iterable[str]) -> dict[str, str]:
    """Return the parameters of `query.` options, as the strings that they are. Raises SpecError, naming the spec."""
    for name, value in given.items():
        if not name or name in reserved:
            raise SpecError(f"{text}: query.{name}: the teacher sets this parameter itself, by an option of its own")
        _check_no_secret(text, f"query.{name}", value)
    return dict(sorted(given.items()))


def headers_of(text: str, given: Mapping[str, str], key_header: str) -> dict[str, str]:
    """Return the environment variables of `header_env.` options by the headers that they fill. Raises SpecError."""
    for name, variable in given.items():
        if not _HEADER.fullmatch(name) or name.lower() in ("content-type", "content-length", "host", key_header):
            raise SpecError(f"{text}: header_env.{name}: expected the name of a header that the teacher does not set")
        if not _VARIABLE.fullmatch(variable):
            raise SpecError(f"{text}: header_env.{name} expects the name of an environment variable, not a value")
    return dict(given)


def _check_no_secret(text: str, option: str, value: Any) -> None:
    """Raise SpecError, without the value, if an option's name or value is that of a secret: a spec is stored."""
    names = [option.rpartition(".")[2], *_names(value)]
    values = [value] if isinstance(value, str) else []
    if any(_SECRET.search(name) for name in names) or any(_SECRET_VALUE.search(one) for one in values):
        where = text.partition("?")[0]
        raise SpecError(
            f"{where}: {option} looks like a secret, and a spec is stored with the pictures; put it into an "
            "environment variable and name that: key_env=VARIABLE for the API key, header_env.NAME=VARIABLE "
            "for another header"
        )


def _names(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [name for key, inner in value.items() for name in (key, *_names(inner))]
    return [name for inner in value for name in _names(inner)] if isinstance(value, list) else []
