"""What an HTTP answer without a picture means: ask again, don't, the policy refused it, or nothing will work."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from teacher_cache.errors import ArmadaError

LONGEST_WAIT_S = 600.0  # a server that asks for more ends the build, which goes on later
_POLICY = re.compile(r"content[_ ]polic|moderation|safety|content[_ ]filter|responsible[_ ]?ai|nsfw", re.IGNORECASE)
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached", "billing_not_active")
_IN_PASSING = (408, 409, 425, 429)


class HopelessError(ArmadaError):
    """No request can succeed: a wrong key, no such model, no money left. The build stops; nothing drawn is lost."""


def reason_of(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> tuple[str, str, float]:
    """(reason, message, seconds that the server asks to wait). Raises HopelessError.

    Such an answer costs nothing: providers bill pictures, not errors.
    """
    code, text = _error_of(body)
    message = f"HTTP {status}{f' {code}' if code else ''}: {text}"
    if status >= 500 or status in _IN_PASSING:
        if code in _NO_MONEY:
            raise HopelessError(f"{message}; pay the provider and run the same command again")
        wait = retry_after(headers.get("retry-after", ""), now)
        if wait > LONGEST_WAIT_S:
            raise HopelessError(f"{message}; the server asks to wait {wait:.0f} s: run the same command again then")
        return "transient", message, wait
    if 300 <= status < 400:
        return "permanent", f"HTTP {status}: redirects elsewhere, which is refused; is base_url right?", 0.0
    if _POLICY.search(code) or _POLICY.search(text):
        return "refused", message, 0.0
    if status in (401, 402, 403, 404):
        raise HopelessError(f"{message}; check the key, the model and base_url, then run the same command again")
    return "permanent", message, 0.0


def retry_after(value: str, now: datetime) -> float:
    """Seconds that a Retry-After header asks for, given in seconds or as a date; 0 where it says nothing readable."""
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
    """The code and the message of an error's body, as OpenAI and compatible servers write it."""
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
    """A text from outside, short and without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
