"""The pictures in a reply of the Images API, in every dress in which servers send them: a picture was paid for."""

from __future__ import annotations

import binascii
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pybase64

from teacher_cache.format.pixels import picture_suffix
from teacher_cache.teachers.http_errors import error_of, is_refusal, one_line
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, read_body

if TYPE_CHECKING:
    from httpx2 import Client

_MAX_VALUES = 100_000  # brackets, braces and commas in a reply; a picture's base64 has none of them
_FINE = ("0", "200", "ok", "success")  # codes of a reply that is no error
_REDIRECTS = 5
_FETCHES = 3  # of one picture's URL


@dataclass(frozen=True)
class Reply:
    """The parts of a reply with status 200: the entries of `data`, its `usage`, or {}, whether it is an error, and the
    dollars that it states for the call, if it does so outside its usage."""

    entries: tuple[Any, ...]
    usage: Mapping[str, Any]
    is_error: bool
    cost_usd: float | None = None


def read_reply(body: bytes) -> Reply:
    """Read a reply's JSON. Raises ReplyError if it is no JSON object, or too deep or too large to be one of the API."""
    try:
        if len(body) > _MAX_VALUES and sum(map(body.count, (b"[", b"{", b","))) > _MAX_VALUES:
            raise ReplyError("undecodable", f"expected JSON with data, found more than {_MAX_VALUES} values")
        value = _parsed(body)
    except (ValueError, RecursionError):
        raise ReplyError("undecodable", f"expected JSON with data, found {body[:60]!r}") from None
    if not isinstance(value, dict):
        raise ReplyError("undecodable", f"expected JSON with data, found {body[:60]!r}")
    field = next((name for name in ("data", "images") if name in value), "")  # `images` is the name elsewhere
    data, usage = value.get(field), value.get("usage")
    entries = tuple(entry for entry in (data if isinstance(data, list) else [data]) if entry)
    has_error = any(value.get(name) for name in ("error", "errors", "detail")) or (
        str(value.get("code") or 0).lower() not in _FINE or (not field and "message" in value)
    )
    if not field and not has_error:
        raise ReplyError("undecodable", f"expected JSON with data, found {body[:60]!r}")
    return Reply(entries, usage if isinstance(usage, dict) else {}, has_error and not entries)


def _parsed(body: bytes) -> Any:
    """Return the value of a JSON text: a picture's base64 takes an eighth of the time that the standard library needs,
    which is asked where the faster parser is stricter (half a character, deep nesting)."""
    from pydantic_core import from_json

    try:
        return from_json(body)
    except ValueError:
        return json.loads(body)


def read_picture(client: Client, address: str, entry: Any, limits: Limits) -> bytes:
    """Return the picture of one entry of `data`: base64, a data URL, or a URL, perhaps relative to the API's
    `address`. Raises ReplyError if it has none that can be used."""
    facts = entry if isinstance(entry, dict) else {}
    encoded, url = (value.strip() if isinstance(value, str) else "" for value in map(facts.get, ("b64_json", "url")))
    if isinstance(entry, str):
        encoded, url = ("", entry) if entry.startswith("http") else (entry, "")
    if not encoded and url[:5].lower() == "data:":
        encoded = url
    if not encoded and not url:
        raise _no_picture(facts)
    picture = decode_base64(encoded) if encoded else _fetch(client, address, url, limits)
    if not picture_suffix(picture):
        raise ReplyError("undecodable", f"expected a PNG, JPEG, WebP or AVIF, found {picture[:20]!r}")
    return picture


def _no_picture(facts: Mapping[str, Any]) -> ReplyError:
    """Return the error of an entry without a picture: refused if its error or finish reason says so."""
    error, reason = error_of(json.dumps(facts).encode("utf-8")), facts.get("finish_reason")
    codes = [code for code in (reason, *error.codes) if isinstance(code, str)]
    message = f"the server gave no picture: {one_line(' '.join([*codes, error.message]))}"
    return ReplyError("refused" if any(map(is_refusal, codes)) else "transient", message, billed=False)


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64 or of a data URL: with or without line breaks and padding, in either alphabet. Raises
    ReplyError if it is neither."""
    if text[:5].lower() != "data:":
        with contextlib.suppress(ValueError):  # the common form needs no copies
            return pybase64.b64decode(text, validate=True)
    head, comma, rest = text.lstrip().partition(",")
    encoded = text.encode("utf-8", "replace")
    if comma and head[:5].lower() == "data:":
        encoded = unquote_to_bytes(rest.encode("utf-8", "replace"))
        if not head.lower().endswith("base64"):
            return encoded
    encoded = b"".join(encoded.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        return pybase64.b64decode(encoded + b"=" * (-len(encoded) % 4), validate=True)
    except binascii.Error as error:
        raise ReplyError("undecodable", f"no readable picture in the reply: {error}") from None


def _fetch(client: Client, address: str, url: str, limits: Limits) -> bytes:
    """Download a picture, without sending the key. It is paid for, so the download is tried three times."""
    for attempt in range(1, _FETCHES + 1):
        try:
            return _follow(client, address, url, limits)
        except (StatusError, ReplyError) as error:
            final = error.status < 500 if isinstance(error, StatusError) else error.reason != "transient"
            if final and isinstance(error, ReplyError):
                raise
            if attempt == _FETCHES or final:
                raise ReplyError("transient", f"the picture's URL could not be fetched: {error}") from None
            time.sleep(0.5 * attempt)
    raise AssertionError


def _follow(client: Client, address: str, url: str, limits: Limits) -> bytes:
    """Read a URL, relative to `address`, and follow its redirects. Where the API is reached by https, all of them must
    be https."""
    schemes = ("https",) if urlsplit(address).scheme == "https" else ("https", "http")
    for _ in range(_REDIRECTS + 1):
        try:
            url = urljoin(address, url)
            scheme, host = urlsplit(url).scheme, urlsplit(url).netloc
        except ValueError:
            scheme, host = "", ""
        if scheme not in schemes or not host:
            raise ReplyError("undecodable", f"expected the URL of a picture, found {one_line(url)!r}")
        try:
            return read_body(client, "GET", url, limits=limits)
        except StatusError as status:
            location = status.headers.get("location", "")
            if status.status not in (301, 302, 303, 307, 308) or not location:
                raise
            address, url = url, location
    raise ReplyError("undecodable", f"the picture's URL has more than {_REDIRECTS} redirects")
