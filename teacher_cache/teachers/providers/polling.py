"""A server that answers a request with a task: ask for the task until its picture is there.

The task is paid for, so that a question that fails is asked again, until the call's time is over. The key is sent to
the server's own host and its provider's domain, and nowhere else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit

from teacher_cache.teachers.http_errors import one_line
from teacher_cache.teachers.http_reply import Limits, ReplyError, StatusError, read_body
from teacher_cache.teachers.providers.presets import Poll
from teacher_cache.teachers.reply_pictures import Reply

if TYPE_CHECKING:
    from httpx2 import Client

_CENTS = 100


class Tasks(Protocol):
    """Where the tasks of pictures are kept until their answer is stored, by image key."""

    def get(self, image_key: str) -> bytes | None:
        """Return the reply that announced a task, or None."""
        ...

    def note(self, image_key: str, reply: bytes) -> None:
        """Keep the reply that announced a task."""
        ...

    def drop(self, image_key: str) -> None:
        """Forget a task that brings no picture."""
        ...


def await_picture(
    client: Client,
    address: str,
    reply: bytes,
    poll: Poll,
    *,
    tasks: Tasks | None,
    image_key: str,
    headers: Mapping[str, str],
    key_domain: str,
    limits: Limits,
    every_s: float,
) -> Reply:
    """Return the reply with the picture's URL that a task leads to, asking every `every_s` seconds. `tasks` keeps the
    task meanwhile.

    Raises ReplyError if the prompt is refused, the task fails, or its picture is not there within the limits' seconds.
    """
    if tasks:
        tasks.note(image_key, reply)
    try:
        return _await(client, address, reply, poll, headers, key_domain, limits, every_s)
    except ReplyError:
        if tasks:
            tasks.drop(image_key)
        raise


def _await(
    client: Client,
    address: str,
    reply: bytes,
    poll: Poll,
    headers: Mapping[str, str],
    key_domain: str,
    limits: Limits,
    every_s: float,
) -> Reply:
    deadline = time.monotonic() + limits.seconds
    task = _object(reply)
    url = _question(address, task.get(poll.url), key_domain)
    cost = _dollars(task.get(poll.credits))
    asked = task
    while True:
        status = asked.get(poll.status)
        if status in poll.ready:
            cost = cost if cost is not None else _dollars(asked.get(poll.credits))
            result = asked.get(poll.result)
            picture = result.get(poll.picture) if isinstance(result, dict) else None
            if not isinstance(picture, str) or not picture:
                raise ReplyError("transient", f"the task is {status}, but has no picture")
            return Reply(({"url": picture},), {}, is_error=False, cost_usd=cost)
        if status in poll.refused:
            raise ReplyError("refused", f"the server answered: {one_line(str(status))}")
        if status in poll.failed:
            raise ReplyError("transient", f"the task failed: {one_line(str(status))}")
        if time.monotonic() + every_s > deadline:
            raise ReplyError("transient", f"no picture within {limits.seconds:g} s; the last status was {status!r:.60}")
        time.sleep(every_s)
        left = Limits(max(0.001, deadline - time.monotonic()), limits.bytes)
        try:
            asked = _object(read_body(client, "GET", url, limits=left, headers=dict(headers)))
        except StatusError as error:
            if error.status in (400, 401, 403, 404, 410):
                raise ReplyError("transient", f"the task can't be asked for: HTTP {error.status}") from None
        except ReplyError as error:
            if error.reason != "transient":
                raise


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ReplyError("undecodable", f"expected a task as JSON, found {body[:60]!r}")
    return value


def _question(address: str, url: object, key_domain: str) -> str:
    """Return the address at which a task is asked for. Raises ReplyError if the key may not be sent there."""
    try:
        found = urljoin(address, url) if isinstance(url, str) and url else ""
        ours, theirs = urlsplit(address), urlsplit(found)
        host = theirs.hostname or ""
    except ValueError:
        found, host, theirs = "", "", urlsplit("")
    same = found and theirs.netloc == ours.netloc and theirs.scheme == ours.scheme
    in_domain = bool(key_domain) and theirs.scheme == "https" and f".{host}".endswith(f".{key_domain}")
    if not (same or in_domain):
        raise ReplyError(
            "undecodable", f"expected the address of a task at {ours.netloc}, found {one_line(str(url))!r}"
        )
    return found


def _dollars(cents: object) -> float | None:
    """Return a stated cost in cents as dollars; None if there is none."""
    is_cost = isinstance(cents, (int, float)) and not isinstance(cents, bool) and 0 <= cents <= 100_000
    return cents / _CENTS if is_cost and isinstance(cents, (int, float)) else None
