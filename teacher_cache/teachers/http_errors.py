"""What an error reply means, read from its status and its structured code, never from the words of its message.

An error is the prompt's (refused, permanent), passing (transient), a limit on requests (turned away: the same request
is sent again and counts neither as a call nor as an attempt), or everybody's: then no request can succeed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from teacher_cache.errors import ArmadaError
from teacher_cache.teachers.http_reply import ReplyError

LONGEST_WAIT_S = 600.0  # if a server asks for a longer wait, the build stops and can be continued later
_LONGEST_BODY = 1_000_000  # bytes of an error's body that are read as JSON
_TRANSIENT = (408, 409, 425)
_NO_ACCESS = (401, 402, 403, 404, 405)
# Sets of words: a code such as `billing_hard_limit_reached` or `contentFilter` has a meaning if it has all of one.
_NO_MONEY = (
    {"billing"},
    {"insufficient", "quota"},
    {"insufficient", "balance"},
    {"insufficient", "credits"},
    {"insufficient", "funds"},
    {"credits", "exhausted"},
    {"payment", "required"},
    {"arrearage"},
)
_NO_ACCOUNT = (
    *({word} for word in ("account", "organization", "organisation", "subscription", "authentication", "deactivated")),
    *({word} for word in ("suspended", "banned", "terminated", "permission", "permissions", "unauthorized")),
    *({"user", word} for word in ("blocked", "disabled", "inactive")),
    *({"key", word} for word in ("api", "invalid", "expired", "revoked", "disabled")),
    *({"token", word} for word in ("invalid", "expired")),
    {"unauthenticated"},
    {"access", "denied"},
    {"not", "found", "model"},
    {"not", "found", "deployment"},
    {"unsupported", "country"},
)
_REFUSED = (
    *({word} for word in ("moderation", "safety", "nsfw", "sensitive")),
    *({"content", word} for word in ("policy", "filter", "filtered", "violation", "blocked")),
    {"policy", "violation"},
    {"responsible", "ai"},
    {"data", "inspection"},
)
_LIMITED = (
    {"rate", "limit"},
    {"rate", "limited"},
    {"too", "many", "requests"},
    {"throttling"},
    {"throttled"},
    {"slow", "down"},
)
_OPTION = {"parameter", "parameters", "param", "argument", "option", "field", "extra"}
_NOT_TAKEN = {"unknown", "unsupported", "unrecognized", "unexpected", "missing", "forbidden"}
_PROMPT = {"prompt", "input", "text"}  # the fields in which servers take a prompt


class HopelessError(ArmadaError):
    """No request can succeed: a wrong key or option, an unknown model, no money left. The build stops and keeps its
    pictures. `param` is the option that the server does not take, or ""."""

    def __init__(self, message: str, param: str = "") -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class ErrorBody:
    """An error in the format of OpenAI or of a compatible server: its codes and types, the most specific one first,
    its message on one line, and the request's field that it complains about, or ""."""

    codes: tuple[str, ...] = ()
    message: str = ""
    param: str = ""

    def says(self, meanings: tuple[set[str], ...]) -> bool:
        """Return whether one of the codes has all the words of a meaning."""
        return any(words <= code_words(code) for code in self.codes for words in meanings)

    @property
    def is_about_an_option(self) -> bool:
        """Whether the server complains about an option of the request, and not about its prompt."""
        named = any(code_words(code) & _OPTION and code_words(code) & _NOT_TAKEN for code in self.codes)
        return named or (bool(self.param) and not self.is_about_the_prompt)

    @property
    def is_about_the_prompt(self) -> bool:
        """Whether the server complains about the prompt."""
        return bool(_PROMPT.intersection(re.findall(r"\w+", self.param)))


def classify(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> ReplyError:
    """Return the error that a reply with a status other than 200, or with an error in its body, stands for.

    An error costs nothing: providers bill pictures. Raises HopelessError if no request can succeed.
    """
    error = error_of(body)
    code = next((code for code in error.codes if not code.isdigit()), "")
    message = f"HTTP {status}{f' {code}' if code else ''}: {error.message}"
    if status == 200:  # the body's code is the status, where it is a number
        status = next((int(code) for code in error.codes if re.fullmatch("[45][0-9][0-9]", code)), 400)
    if error.says(_NO_MONEY) or status == 402:
        raise HopelessError(f"{message}; pay the provider and run the same command again")
    if error.says(_NO_ACCOUNT):
        raise HopelessError(f"{message}; check the account, the key and the model, then run the same command again")
    if error.says(_REFUSED) and not error.is_about_an_option:
        return ReplyError("refused", message, billed=False)
    wait_s = _wait_of(headers, now)
    if wait_s > LONGEST_WAIT_S:
        raise HopelessError(f"{message}; the server asks to wait {wait_s:.0f} s; run the same command again after that")
    if status == 429 or error.says(_LIMITED) or (status == 503 and wait_s):
        return ReplyError("transient", message, billed=False, turned_away=True, wait_s=wait_s)
    if status >= 500 or status in _TRANSIENT:
        return ReplyError("transient", message, billed=False, wait_s=wait_s)
    if status in _NO_ACCESS:
        raise HopelessError(f"{message}; check the key, the model and base_url, then run the same command again")
    if 300 <= status < 400:
        message = f"HTTP {status}: redirects are not followed; check base_url"
    elif error.is_about_an_option:
        named = f"the parameter {error.param}" if error.param else "a parameter of the request"
        raise HopelessError(
            f"{message}; the server does not take {named}; correct the teacher's spec, then run the same command again",
            error.param,
        )
    return ReplyError("permanent", message, billed=False, ambiguous=not error.is_about_the_prompt)


def is_refusal(code: str) -> bool:
    """Return whether a code, for example the finish reason of a picture, says that a policy refused the prompt."""
    return ErrorBody((code,)).says(_REFUSED)


def retry_after(value: str, now: datetime) -> float:
    """Return the seconds that a Retry-After header asks for, as a number or as a date; 0 if it is unreadable."""
    try:
        seconds = float(value)
        return seconds if 0 < seconds < float("inf") else 0.0
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=timezone.utc)) - now).total_seconds())


def _wait_of(headers: Mapping[str, str], now: datetime) -> float:
    if milliseconds := retry_after(headers.get("retry-after-ms", ""), now):
        return milliseconds / 1000
    return retry_after(headers.get("retry-after", ""), now)


def error_of(body: bytes) -> ErrorBody:
    """Read the body of an error. A body in another format is an error without a code, and with its text as message."""
    try:
        value: Any = json.loads(body[:_LONGEST_BODY])
    except (ValueError, RecursionError):
        return ErrorBody((), one_line(body[:2000].decode("utf-8", "replace")))
    parts = list(_parts(value))
    codes = [part.get(name) for part in reversed(parts) for name in ("code", "type", "status")]
    messages = [part.get(name) for part in parts for name in ("message", "msg", "detail", "error")]
    params = [part.get("param") for part in parts] + [_last_name(part.get("loc")) for part in parts]
    text = next((str(message) for message in messages if isinstance(message, str) and message), "")
    return ErrorBody(
        tuple(one_line(str(code)) for code in codes if isinstance(code, (str, int)) and str(code)),
        one_line(text or body[:2000].decode("utf-8", "replace")),
        next((one_line(param) for param in params if isinstance(param, str) and param), ""),
    )


def _parts(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects that describe an error, from the outermost to the innermost."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict) and depth < 4:
        yield value
        for name in ("error", "errors", "detail", "inner_error", "innererror"):
            yield from _parts(value.get(name), depth + 1)


def _last_name(path: object) -> object:
    """Return the field that a path such as ["body", "size"] leads to."""
    names = [name for name in path if isinstance(name, str) and name != "body"] if isinstance(path, list) else []
    return names[-1] if names else None


def code_words(code: str) -> set[str]:
    """Return the words of a code such as `billing_hard_limit_reached` or `contentFilter`, in lower case."""
    return {word.lower() for word in re.findall("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", code)}


def one_line(text: str) -> str:
    """Return a text of a server on one line, without control characters and at most 300 characters long."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
