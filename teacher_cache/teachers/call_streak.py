"""Calls in a row without a picture: they tell a prompt's error from an error that every request would meet.

A wrong option, a dead server or an endless limit on requests is no row's fault: the build ends, and the rows stay
missing. An error that may be the prompt's or everybody's is held back until another call shows which it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from teacher_cache.teachers import Failure, Picture
from teacher_cache.teachers.http_reply import ReplyError

_MAX_ERRORS = 30  # calls in a row that failed, besides two per call in flight, after which the build stops
_SAME_ERRORS = 5  # prompts that met the same error, if no other call was made, after which the build stops
_UNREACHABLE = (5, 10.0)  # calls in a row without a connection, and seconds, after which the build stops
_LONGEST_LIMIT_S = 900.0  # in which every request was turned away by a limit, after which the build stops

Answer = Picture | Failure


@dataclass(frozen=True)
class Call:
    """One call: an answer per request, and why it brought no picture. `error` is None if it brought one; `hopeless` is
    why no request can succeed, or ""."""

    answers: Sequence[Answer]
    error: ReplyError | None = None
    hopeless: str = ""


@dataclass
class CallStreak:
    """The calls in a row that failed, with `concurrency` calls in flight. `hopeless` is why the build must stop, or
    ""."""

    concurrency: int
    clock: Callable[[], float] = time.monotonic
    hopeless: str = ""
    _errors: int = 0
    _unreachable_since: float | None = None
    _limited_since: float | None = None
    _has_answered: bool = False  # whether the server ever drew or refused a prompt
    _held: list[Failure] = field(default_factory=list)

    def begin(self, concurrency: int) -> None:
        """Begin to draw, with so many calls in flight."""
        self.concurrency = concurrency
        if self.hopeless:
            self._errors, self._unreachable_since, self._limited_since = 0, None, None
        self.hopeless = ""

    def settle(self, call: Call) -> list[Answer]:
        """Return the answers that are certain now: those of the call, and those that it lets go."""
        error = call.error
        if call.hopeless:
            self.hopeless = self.hopeless or call.hopeless
            return list(call.answers)
        if error is None or error.reason == "refused":
            self._errors, self._unreachable_since, self._limited_since, self._has_answered = 0, None, None, True
            return [*self._let_go(), *call.answers]
        if error.turned_away and not error.unreachable:
            self._limited_since = self._limited_since if self._limited_since is not None else self.clock()
            if self.clock() - self._limited_since > _LONGEST_LIMIT_S:
                self.hopeless = f"every call was turned away for {_LONGEST_LIMIT_S:.0f} s, the last one with: {error}"
            return list(call.answers)
        self._errors += 1
        if error.unreachable:
            self._unreachable_since = self._unreachable_since if self._unreachable_since is not None else self.clock()
            calls, seconds = _UNREACHABLE
            is_dead = self._errors >= calls and self.clock() - self._unreachable_since > seconds
        else:
            self._unreachable_since, is_dead = None, False
        if is_dead or self._errors > _MAX_ERRORS + 2 * self.concurrency:
            self.hopeless = f"{self._errors} calls in a row failed, the last one with: {error}"
        if error.ambiguous:
            self._held += [answer for answer in call.answers if isinstance(answer, Failure)]
            return []
        return list(call.answers)

    def end(self) -> list[Answer]:
        """Return the answers that were held back, after the last call. If the build stops, their rows stay missing."""
        messages = {answer.message for answer in self._held}
        if not self.hopeless and not self._has_answered and len(self._held) >= _SAME_ERRORS and len(messages) == 1:
            self.hopeless = f"all {len(self._held)} calls failed with: {messages.pop()}"
        if self.hopeless:
            held, self._held = self._held, []
            return [replace(answer, reason="transient", retry_after_s=0.0, turned_away=True) for answer in held]
        return self._let_go()

    def _let_go(self) -> list[Answer]:
        held, self._held = self._held, []
        return list(held)
