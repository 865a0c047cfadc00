"""Classify HTTP error responses: retry, do not retry, refused by the content policy, or no request can succeed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from teacher_cache.errors import ArmadaError

LONGEST_WAIT_S = 600.0  # if a server asks for a longer wait, the build stops and can be continued later
_POLICY = re.compile(r"content[_ ]polic|moderation|safety|content[_ ]filter|responsible[_ ]?ai|nsfw", re.IGNORECASE)
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_TRANSIENT = (408, 409, 425, 429)


class HopelessError(ArmadaError):
    """No request can succeed: a wrong key, an unknown model, no money left. The build stops and keeps its pictures."""


def reason_of(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> tuple[str, str, float]:
    """Return the reason (one of REASONS), a message, and the seconds that the server asks to wait.

    Raises HopelessError if no request can succeed. An error response costs nothing: providers bill pictures, not
    errors.
    """
    code, text = _error_of(body)
    message = f"HTTP {status}{f' {code}' if code else ''}: {text}"
    if status >= 500 or status in _TRANSIENT:
        if code in _NO_MONEY:
            raise HopelessError(f"{message}; pay the provider and run the same command again")
        wait = retry_after(headers.get("retry-after", ""), now)
        if wait > LONGEST_WAIT_S:
            raise HopelessError(
                f"{message}; the server asks to wait {wait:.0f} s; run the same command again after that"
            )
        return "transient", message, wait
    if 300 <= status < 400:
        return "permanent", f"HTTP {status}: redirects are not followed; check base_url", 0.0
    if _POLICY.search(code) or _POLICY.search(text):
        return "refused", message, 0.0
    if status in (401, 402, 403, 404):
        raise HopelessError(f"{message}; check the key, the model and base_url, then run the same command again")
    return "permanent", message, 0.0


def retry_after(value: str, now: datetime) -> float:
    """Return the seconds that a Retry-After header asks for, as a number or as a date; 0 if it is unreadable."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, ((at if at.tzinfo else at.replace(tzinfo=timezone.utc)) - now).total_seconds())


def _error_of(body: bytes) -> tuple[str, str]:
    """Return the code and the message of an error's body in the format of OpenAI and compatible servers."""
    text = body[:2000].decode("utf-8", "replace")
    try:
        error: Any = json.loads(text)
    except ValueError:
        return "", one_line(text)
    error = error.get("error", error) if isinstance(error, dict) else {}
    if not isinstance(error, dict):
        return "", one_line(str(error))
    code = error.get("code") or error.get("type") or ""
    return one_line(str(code)), one_line(str(error.get("message") or error.get("detail") or text))


def one_line(text: str) -> str:
    """Return a text of a server on one line, without control characters and at most 300 characters long."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
