"""The answers of a teacher, checked before they are stored: a plug-in may answer oddly, twice or not at all.

The bytes of a picture decide its suffix, so that no teacher chooses the name of a file in a tar.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from teacher_cache.errors import ArmadaError
from teacher_cache.format.pixels import picture_fault, picture_suffix
from teacher_cache.teachers import REASONS, Failure, Picture, Request, Teacher

_REMEMBERED = 65_536  # pictures whose digests are compared


def answers_of(
    teacher: Teacher,
    requests: Iterable[Request],
    in_flight: Mapping[str, object],
    name: str,
    fail: Callable[[ArmadaError], None],
    has_failed: Callable[[], bool],
) -> Iterator[Picture | Failure]:
    """Let a teacher draw, and yield one answer per request in flight (by image key, which the caller takes out): one
    that was not requested, or a second one, is dropped, and a missing one is a failure, unless the build `has_failed`.
    `fail` is called with the error of an answer that is none."""
    odd = 0
    for given in teacher.draw(requests):
        try:
            answer = check_answer(given, name)
        except ArmadaError as error:
            fail(error)
            continue
        if answer.image_key in in_flight:
            yield answer
            continue
        odd += 1
        if odd == 1:
            print(f"{name}: an answer to no request in flight is dropped: {answer.image_key!r}", file=sys.stderr)
    for key in [] if has_failed() else list(in_flight):
        yield Failure(key, "transient", "the teacher gave no answer to this request")


def check_answer(answer: Any, teacher: str) -> Picture | Failure:
    """Return an answer of a teacher. Raises ArmadaError, naming the teacher, if it is no Picture and no Failure, has an
    unknown reason, no bytes, or a cost that is negative or no number."""
    if not isinstance(answer, (Picture, Failure)):
        raise ArmadaError(f"{teacher}: expected a Picture or a Failure per request, found {type(answer).__name__}")
    for name, value in (("cost_usd", answer.cost_usd), ("seconds", answer.seconds)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
        if not is_number and not (value is None and name == "cost_usd"):
            raise ArmadaError(f"{teacher}: expected {name} of an answer as a number from 0 on, found {value!r}")
    if isinstance(answer, Failure):
        if answer.reason not in REASONS:
            raise ArmadaError(
                f"{teacher}: a failure has the reason {answer.reason!r}; expected one of {', '.join(REASONS)}"
            )
        return answer if isinstance(answer.message, str) else replace(answer, message=str(answer.message))
    if not isinstance(answer.data, (bytes, bytearray, memoryview)):
        raise ArmadaError(f"{teacher}: expected a picture as bytes, found {type(answer.data).__name__}")
    return answer if type(answer.data) is bytes else replace(answer, data=bytes(answer.data))


def check_picture(answer: Picture | Failure) -> Picture | Failure:
    """Return the answer, with the suffix of its picture's format, or a failure if the picture is blank or
    undecodable."""
    if isinstance(answer, Failure):
        return answer
    fault = picture_fault(answer.data)
    if fault:
        message = f"{answer.where}: {fault[1]}" if answer.where else fault[1]
        return Failure(answer.image_key, fault[0], message, answer.cost_usd, answer.seconds)
    suffix = picture_suffix(answer.data) or ""
    return answer if answer.suffix == suffix else replace(answer, suffix=suffix)


@dataclass
class IdenticalPictures:
    """Finds pictures that a teacher gave for two requests, and reports them on standard error, once for samples of one
    prompt and once for different prompts. `advice` is what to do about samples."""

    teacher: str
    advice: str = ""
    _first: dict[str, tuple[str, int]] = field(default_factory=dict)  # prompt and sample by the picture's digest
    _reported: set[str] = field(default_factory=set)

    def add(self, digest: str, prompt: str, sample: int) -> None:
        """Compare a picture, by its SHA-256, with those that were added before."""
        other, other_sample = self._first.setdefault(digest, (prompt, sample))
        if len(self._first) > _REMEMBERED:
            del self._first[next(iter(self._first))]
        if (other, other_sample) == (prompt, sample):
            return
        if other == prompt:
            advice = self.advice or "see the teacher's options for its seed, or build with --samples 1"
            what = f"samples {other_sample} and {sample} of {prompt[:60]!r}; {advice}"
        else:
            what = (
                f"the prompts {other[:60]!r} and {prompt[:60]!r}; if it is a notice and no picture, stop the build; "
                "look at it by: armada cache browse URL"
            )
        kind = "samples" if other == prompt else "prompts"
        if kind not in self._reported:
            self._reported.add(kind)
            print(f"{self.teacher}: the same picture came for {what}", file=sys.stderr)
