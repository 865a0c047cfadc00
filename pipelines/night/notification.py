"""The notification of a build's end: one POST of a JSON object to an address of the user's.

A failure to notify never fails a build. The address may be secret as a whole (a chat's webhook is): of it, only the
host's name appears in any message.
"""

from __future__ import annotations

import base64
import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from pipelines.night.facts import Night, exit_code, exit_code_of
from pipelines.night.redaction import clean
from pipelines.number_format import duration
from teacher_cache import ArmadaError, BuildReport

TIMEOUT_S = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: an address that was not given gets nothing."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


@dataclass
class Notifier:
    """Posts once, whatever happens first. Raise ArmadaError, without the address, if it is none of http or https."""

    url: str = field(repr=False)
    host: str = ""
    has_posted: bool = False

    def __post_init__(self) -> None:
        wrong = "--notify: expected http://HOST/... or https://HOST/..., as printable ASCII without blanks"
        try:
            parts = urlsplit(self.url)
            port, name = parts.port, parts.hostname
        except ValueError:
            raise ArmadaError(wrong) from None
        plain = self.url.isascii() and self.url.isprintable() and " " not in self.url
        if parts.scheme not in ("http", "https") or not name or not plain:
            raise ArmadaError(wrong)
        name = f"[{name}]" if ":" in name else name
        self.host = name if port is None else f"{name}:{port}"

    def post(self, facts: dict[str, Any]) -> str:
        """Post facts, unless something was posted before. Return why it failed, or ""; it takes at most TIMEOUT_S."""
        if self.has_posted:
            return ""
        self.has_posted = True
        found = [f"it took longer than {TIMEOUT_S:.0f} s"]

        def send() -> None:
            found[0] = self._send(facts)

        thread = threading.Thread(target=send, name="armada-notify", daemon=True)
        thread.start()
        thread.join(TIMEOUT_S)
        return f"--notify: {self.host} was not notified: {found[0]}" if found[0] else ""

    def _send(self, facts: dict[str, Any]) -> str:
        parts = urlsplit(self.url)
        address = urlunsplit((parts.scheme, self.host, parts.path or "/", parts.query, ""))
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "armada"}
        if parts.username or parts.password:
            pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
        body = json.dumps(facts, allow_nan=False).encode("utf-8")
        try:
            request = urllib.request.Request(address, body, headers, method="POST")
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_S) as reply:
                reply.read(1024)
            return ""
        except urllib.error.HTTPError as error:
            redirect = ", a redirect, which is not followed" if 300 <= error.code < 400 else ""
            return f"it answered {error.code}{redirect}"
        except urllib.error.URLError as error:
            return _words(error.reason if isinstance(error.reason, BaseException) else error)
        except Exception as error:  # of no kind of its own; its message may contain the address
            return _words(error)


def _words(error: BaseException) -> str:
    text = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {text}" if isinstance(text, str) and text else type(error).__name__


def of_night(night: Night, page: str) -> dict[str, Any]:
    """Return what is posted at the end of a build: see README, "Notification"."""
    return {
        "text": summary(night) + (f"\n{page}" if page else ""),
        "event": night.outcome,
        "exit_code": exit_code(night),
        "error": night.error,
        "cache": night.cache,
        "teacher": night.teacher.name,
        "encoder": night.encoder.name,
        "prompts": clean(night.prompts),
        "host": night.host,
        "folder": night.folder,
        "requested": night.requested,
        "pictures": night.pictures,
        "features": night.features,
        "missing": night.missing,
        "in_batches": night.in_batches,
        "failed": night.reasons.counts,
        "drawn": night.drawn,
        "calls": night.calls,
        "cost_usd": night.cost_usd,
        "calls_total": night.calls_total,
        "cost_usd_total": night.cost_usd_total,
        "seconds": round(night.seconds, 1),
        "identical_pictures": night.look.same_rows,
        "next": night.steps[0].command if night.steps else "",
        "page": page,
    }


def of_error(
    error: BaseException, cache: str, prompts: str, host: str, error_code: int | None = None
) -> dict[str, Any]:
    """Return what is posted if a build ends before it knows its cache, its prompts or its teacher."""
    interrupted = isinstance(error, KeyboardInterrupt)
    event, code = ("interrupted", 130) if interrupted else ("error", error_code or int(getattr(error, "exit_code", 1)))
    message = "" if interrupted else clean(str(error))
    return {
        "text": f"armada: the build of {cache} " + (f"stopped: {message}" if message else "was interrupted"),
        "event": event,
        "exit_code": code,
        "error": message,
        "cache": cache,
        "prompts": clean(prompts),
        "host": host,
    }


def of_report(report: BuildReport, cache: str, prompts: str, host: str) -> dict[str, Any]:
    """Return what is posted at the end of a build whose facts could not be gathered."""
    event = report.stopped or "finished"
    return {
        "text": f"armada: the build of {cache} ended ({event}): {report.drawn:,} drawn, {report.calls:,} calls",
        "event": event,
        "exit_code": exit_code_of(event, bool(report.failed or report.features_refused)),
        "error": "",
        "cache": cache,
        "prompts": clean(prompts),
        "host": host,
        **{name: getattr(report, name) for name in ("drawn", "calls", "calls_total", "seconds")},
        "failed": dict(report.failed),
    }


def summary(night: Night) -> str:
    """Return one or two sentences about a build, for a chat's message or a page."""
    done = f"{night.pictures:,} of {night.requested:,} pictures"
    lead = {
        "finished": f"armada: {night.cache} has {done}",
        "budget": f"armada: the budget is reached; {night.cache} has {done}",
        "batches": f"armada: {night.in_batches:,} pictures are in batches at the provider; {night.cache} has {done}",
        "interrupted": f"armada: interrupted; {night.cache} has {done}",
        "error": f"armada: the build of {night.cache} stopped: {night.error}. It has {done}",
    }.get(night.outcome, f"armada: stopped ({night.outcome}); {night.cache} has {done}")
    failed = "".join(f", {count:,} {reason}" for reason, count in night.reasons.counts.items())
    money = "" if night.cost_usd is None else f", {night.cost_usd:,.2f} USD"
    return f"{lead}{failed}. This run: {night.drawn:,} drawn, {night.calls:,} calls{money}, {duration(night.seconds)}."
