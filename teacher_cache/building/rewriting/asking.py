"""Asking a rewriter as a build asks teachers, so that claims, budgets, retries and the ledger are the same for both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from teacher_cache.building.answers import Kind
from teacher_cache.building.rewriting.texts import Texts
from teacher_cache.errors import ArmadaError
from teacher_cache.rewriting import Rewriter, Rewritten, packed
from teacher_cache.rewriting.chat_reply import clean
from teacher_cache.teachers import Failure, Picture, Request
from teacher_cache.text_files import lone_surrogate

TEXTS = Kind("rewriter", "text", lambda answer: answer)  # they are checked as they come


class RewriterAsTeacher:
    """A rewriter in the form in which a build asks teachers: its answers are pictures whose bytes are the text."""

    licence = ""
    deterministic = True  # the same answer for two texts is no fault of a seed

    def __init__(self, rewriter: Rewriter, texts: Texts) -> None:
        self._rewriter = rewriter
        self.spec = rewriter.spec
        self.concurrency = int(getattr(rewriter, "concurrency", 0))
        self.price_usd = rewriter.price_usd
        price_of = getattr(rewriter, "price_of", None)
        if price_of is not None and self.price_usd is not None:
            longest = max(texts.requests.texts(texts.wanted), key=lambda text: len(text.encode("utf-8")), default="")
            self.price_usd = float(price_of(longest))

    def draw(self, requests: Iterable[Request]) -> Iterator[Picture | Failure]:
        """Yield one answer per request. Raises ArmadaError if one is neither a Rewritten nor a Failure."""
        for answer in self._rewriter.rewrite(requests):
            yield self._checked(answer)

    @staticmethod
    def _checked(answer: Any) -> Picture | Failure:
        if isinstance(answer, Failure):
            return answer
        if not isinstance(answer, Rewritten):
            raise ArmadaError(f"the rewriter: expected a Rewritten or a Failure, found {type(answer).__name__}")
        fault = f"a text, found {type(answer.text).__name__}" if not isinstance(answer.text, str) else ""
        fault = fault or lone_surrogate(answer.text)
        text = "" if fault else clean(answer.text)
        if fault or not text:
            reason, message = ("undecodable", f"expected {fault}") if fault else ("blank", "the rewriter gave no text")
            return Failure(answer.key, reason, message, answer.cost_usd, answer.seconds)
        return packed(replace(answer, text=text))
