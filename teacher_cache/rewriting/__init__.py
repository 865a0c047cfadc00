"""Rewriting: a chat model makes of each text a prompt for pictures, once, because abstract texts draw badly.

What it makes is kept in the cache beside the pictures: asked once per text and rewriter, for all teachers that draw it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from teacher_cache.keys import canonical_json
from teacher_cache.teachers import Failure, Picture, Request

_APART = ("key", "cost_usd", "seconds")  # what an answer has beside its bytes


@dataclass(frozen=True)
class Rewritten:
    """What a rewriter made of the text of a request. `model` is the one that answered, as the server says; the tokens
    are those that it counted, or None; `cost_usd` is None if the rewriter has no price."""

    key: str  # the request's `image_key`
    text: str
    cost_usd: float | None = None
    seconds: float = 0.0
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


class Rewriter(Protocol):
    """The interface of a rewriter. `spec` contains every setting that changes what it writes, and no other.

    Optional attributes: `concurrency`, the largest number of requests in flight, and `price_of(text)`, dollars at most
    for a text, by which calls are reserved in place of `price_usd`.
    """

    spec: Mapping[str, Any]
    price_usd: float | None  # per call, at most; None if it is unknown or the rewriter is free of charge

    def rewrite(self, requests: Iterable[Request]) -> Iterator[Rewritten | Failure]:
        """Yield one answer per request that is pulled, in any order; see `Teacher.draw`, whose rules hold here too."""
        ...


def packed(answer: Rewritten) -> Picture:
    """Return an answer in the form in which calls, the spool and its ledger handle answers: with its text as bytes."""
    facts = {name: value for name, value in asdict(answer).items() if name not in _APART}
    return Picture(answer.key, canonical_json(facts), "json", answer.cost_usd, answer.seconds)


def unpacked(answer: Picture | Failure) -> Rewritten | Failure:
    """Return the answer that `packed` stands for; a failure is itself."""
    if isinstance(answer, Failure):
        return answer
    return Rewritten(answer.image_key, cost_usd=answer.cost_usd, seconds=answer.seconds, **json.loads(answer.data))
