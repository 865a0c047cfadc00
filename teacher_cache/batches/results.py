"""The results of a batch: each line is an answer to one request of it, in any order, or nothing that was asked for.

A line that cannot be read, has an unknown id or repeats one is left out: its request, if it has no other line, is
settled by the batch's end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from teacher_cache.batches.api import BatchApi
from teacher_cache.batches.tables import Settled
from teacher_cache.batches.teacher import OpenAIBatch
from teacher_cache.teachers import Failure, Picture, Request

_NOT_MADE = ("batch_expired", "batch_cancelled")  # codes of requests that the provider did not make


@dataclass
class Results:
    """Reads the lines of one batch. `groups` are its requests without an answer, by the custom id of their line;
    `attempts` counts the earlier calls for each key. `check` returns an answer as it is to be stored."""

    api: BatchApi
    teacher: OpenAIBatch
    groups: dict[str, Sequence[Request]]
    attempts: dict[str, int]
    most_attempts: int
    check: Callable[[Picture | Failure], Picture | Failure]
    hopeless: str = ""  # why no request of this kind can succeed
    odd: dict[str, int] = field(default_factory=dict)  # lines left out, by what is wrong with them

    def read(self, text: bytes | None, into: Settled) -> None:
        """Add what one line says; a line of None was too long to be read."""
        if text is not None and not text.strip():
            return
        facts = _object(text)
        key = facts.get("custom_id")
        if not facts or not isinstance(key, str):
            self._leave_out("is no result")
            return
        if key not in self.groups:
            self._leave_out("answers a request that is not in the batch, or was answered before")
            return
        response, error = facts.get("response"), facts.get("error")
        if not isinstance(response, dict):
            self._without_response(key, error if isinstance(error, dict) else {}, into)
            return
        status, body = response.get("status_code"), response.get("body")
        if not isinstance(status, int) or not isinstance(body, dict):
            self._leave_out("is no result")
            return
        call = self.teacher.answers_of(self.api.client, self.groups[key], status, body, self.api.now())
        if call.hopeless or (call.error is not None and call.error.turned_away):
            self.hopeless = self.hopeless or call.hopeless
            self.unsent(key, into)
            return
        into.results += status == 200
        self._settle(key, call.answers, into)

    def fail(self, key: str, message: str, cost_usd: float | None, into: Settled, reason: str = "transient") -> None:
        """Settle a request that failed: transient ones are requested again while they have attempts left."""
        wait_s = 0.0 if reason == "transient" else None
        failures = [
            Failure(request.image_key, reason, message, cost_usd, retry_after_s=wait_s) for request in self.groups[key]
        ]
        self._settle(key, failures, into)

    def unsent(self, key: str, into: Settled) -> None:
        """Settle a request that the provider did not make."""
        into.unsent += [request.image_key for request in self.groups.pop(key)]

    def notes(self) -> list[str]:
        """Return what was left out, in words."""
        return [f"{count} lines of the results: each {what}; left out" for what, count in sorted(self.odd.items())]

    def _settle(self, key: str, answers: Sequence[Picture | Failure], into: Settled) -> None:
        del self.groups[key]
        for answer in answers:
            if isinstance(answer, Failure) and answer.retry_after_s is not None:
                if self.attempts.get(answer.image_key, 0) + 1 < self.most_attempts:
                    into.again.append(answer)
                    continue
                answer = replace(answer, retry_after_s=None)
            into.final.append(self.check(answer))

    def _without_response(self, key: str, error: dict[str, Any], into: Settled) -> None:
        code, message = str(error.get("code") or ""), str(error.get("message") or "no response")
        if code in _NOT_MADE:
            self.unsent(key, into)
            return
        free = None if self.teacher.price_usd is None else 0.0
        self.fail(key, self.teacher.without_key(f"{code} {message}"), free, into)

    def _leave_out(self, what: str) -> None:
        self.odd[what] = self.odd.get(what, 0) + 1


def _object(text: bytes | None) -> dict[str, Any]:
    try:
        facts = json.loads(text or b"")
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}
