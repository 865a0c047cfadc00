"""A user's own rewriter, which needs no server: its spec is tests.teacher_cache.rewriting.own_rewriter:Own?price=0.01.

ARMADA_FAKE_LOG names a file to which each call appends the text before it is answered, `rewrite TEXT`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from teacher_cache import Failure, Request, Rewritten


class Own:
    def __init__(self, spec):
        options = spec.options({"price": 0.0, "style": "plain"})
        self.spec = {"kind": "own-rewriter", "style": options["style"]}
        self.price_usd = options["price"] or None

    def rewrite(self, requests: Iterable[Request]) -> Iterator[Rewritten | Failure]:
        for request in requests:
            if log := os.environ.get("ARMADA_FAKE_LOG"):
                with Path(log).open("a") as stream:
                    stream.write(f"rewrite {request.prompt}\n")
            time.sleep(float(os.environ.get("ARMADA_FAKE_DELAY", "0")))
            yield self._answer(request)

    def _answer(self, request):
        key, text = request.image_key, request.prompt
        odd = {"none": None, "number": 7, "half": "\ud800", "empty": " \n"}
        if text.startswith("[refused]"):
            return Failure(key, "refused", "the text asked for it", self.price_usd)
        return Rewritten(key, odd.get(text, f"seen: {text}"), self.price_usd)
