"""What a reply of a chat model says: the rewritten text, a refusal, or nothing that can be drawn."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from teacher_cache.keys import normalise
from teacher_cache.teachers.http_errors import is_refusal, one_line
from teacher_cache.teachers.http_reply import ReplyError
from teacher_cache.text_files import lone_surrogate

LONGEST = 20_000  # characters of a rewritten text
_END_OF_THOUGHT = "</think>"


def parse_reply(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object of a reply. Raises ReplyError if there is none."""
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        shown = one_line(body[:200].decode("utf-8", "replace"))
        raise ReplyError("transient", f"the reply is no JSON: {shown!r}", ambiguous=False) from None
    if not isinstance(reply, dict):
        raise ReplyError("undecodable", f"expected a JSON object as reply, found {type(reply).__name__}")
    return reply


def text_of(reply: Mapping[str, Any], max_tokens: int) -> str:
    """Return the text of a reply, on one line. Raises ReplyError if it was refused, cut off, empty or is no text."""
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise ReplyError("undecodable", "expected choices with a message in the reply, found none")
    if isinstance(refusal := message.get("refusal"), str) and refusal.strip():
        raise ReplyError("refused", one_line(refusal))
    reason = str(choice.get("finish_reason") or "")
    if is_refusal(reason):
        raise ReplyError("refused", f"the server ended the text with {one_line(reason)}")
    if reason == "length":
        raise ReplyError(
            "permanent",
            f"the text was cut off after {max_tokens} tokens; raise max_tokens in the spec of --rewrite, which changes "
            "no key, and run: armada cache retry --reason permanent",
        )
    text = _content(message.get("content"))
    if fault := lone_surrogate(text):
        raise ReplyError("undecodable", f"expected a text, found {fault}")
    text = clean(text)
    if not text:
        raise ReplyError("blank", "the reply has no text")
    if len(text) > LONGEST:
        raise ReplyError("undecodable", f"expected a prompt of at most {LONGEST:,} characters, found {len(text):,}")
    return text


def clean(text: str) -> str:
    """Return a text on one line, without control characters and without what a model thought aloud before it."""
    text = text.rpartition(_END_OF_THOUGHT)[2]
    return normalise(" ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split()))


def _content(content: Any) -> str:
    """Return the text of a message, which some servers send as a list of parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""
