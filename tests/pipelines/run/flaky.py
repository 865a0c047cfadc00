"""A fake teacher that fails for some requests, each with a reason of its own, as long as ARMADA_FLAKY is set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from teacher_cache import Failure, Picture, Request
from tests.fakes import FakeTeacher

REASONS = ("transient", "permanent", "refused")


class Flaky(FakeTeacher):
    """Fails for three of four requests, as their keys tell."""

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        for request in requests:
            number = int(request.image_key[:8], 16) % 4
            if os.environ.get("ARMADA_FLAKY") and number < 3:
                yield Failure(request.image_key, REASONS[number], "not today")
            else:
                yield from super().draw([request])
