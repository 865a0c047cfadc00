"""What an exception of litellm means, by the provider's own reply where litellm had one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone

from teacher_cache.teachers.http_errors import HopelessError, classify, one_line
from teacher_cache.teachers.http_reply import ReplyError


def reply_error(error: Exception) -> ReplyError:
    """Return what an exception of litellm means, by the provider's own reply if there was one. Raises HopelessError if
    no request can succeed."""
    name = type(error).__name__
    if not hasattr(error, "llm_provider"):
        return ReplyError("undecodable", f"{name}: {error}", billed=False)
    message = str(error).partition(" To drop it from the call")[0]
    if name == "UnsupportedParamsError":
        raise HopelessError(f"{one_line(message)} Correct the teacher's spec, then run the same command again")
    status = getattr(error, "status_code", None)
    if name in ("Timeout", "APIConnectionError", "APIResponseValidationError") or not isinstance(status, int):
        return ReplyError("transient", f"{name}: {one_line(message)}")  # the call may have been paid for
    code = "content_policy_violation" if name == "ContentPolicyViolationError" else None
    body = json.dumps({"error": {"message": message, "code": code}}).encode("utf-8")
    headers: Mapping[str, str] = getattr(error, "litellm_response_headers", None) or {}
    origin = error.__context__
    while origin and not code:
        response = getattr(origin, "response", None)
        if isinstance(getattr(response, "text", None), str) and response is not None and response.text:
            body, headers = response.text.encode("utf-8"), headers or response.headers
            break
        origin = origin.__context__
    return classify(status, headers, body, datetime.now(timezone.utc))
