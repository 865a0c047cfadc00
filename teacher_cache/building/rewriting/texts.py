"""The texts of missing pictures: which of them a rewriter has rewritten, and which it failed to.

A picture whose text could not be rewritten has failed too. The calls that failed for its text count as attempts of the
picture, so that a failure of the teacher always has more attempts than one that only says that the rewriter failed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from teacher_cache.building.requests import Requests, make_requests
from teacher_cache.format.digests import from_hex
from teacher_cache.format.sources import Source
from teacher_cache.keys import prompt_key, rewrite_key
from teacher_cache.rewriting.rows import rewrite_index
from teacher_cache.storage.cache import Cache


@dataclass(frozen=True)
class FailedText:
    """A text that a rewriter failed to rewrite: whether it was rewritten since, and whether it is asked again."""

    reason: str
    message: str
    attempts: int
    is_mended: bool
    is_retried: bool


@dataclass(frozen=True)
class Texts:
    """The unique texts of the pictures that are missing, as requests to their rewriter, whose keys are rewrite keys."""

    rewriter: Source
    requests: Requests  # M of them
    at_hand: np.ndarray  # (M,) bool: the texts that were rewritten
    wanted: np.ndarray  # (M,) bool: the texts to rewrite
    failed: dict[int, FailedText]  # by their place among the M
    pictures: np.ndarray  # (P,) int64: the places of the missing pictures among all requested ones, ascending
    text_of: np.ndarray  # (P,) int64: the place of each one's text among the M

    @property
    def attempts(self) -> np.ndarray:
        """The number of earlier calls that failed, (M,) int32."""
        attempts = np.zeros(len(self.requests), np.int32)
        for place, failure in self.failed.items():
            attempts[place] = failure.attempts
        return attempts

    def failures(self) -> dict[str, int]:
        """Return the number of texts without a prompt, by the reason."""
        reasons = [one.reason for one in self.failed.values() if not one.is_mended and not one.is_retried]
        return {reason: reasons.count(reason) for reason in sorted(set(reasons))}

    def are_at_hand(self, pictures: int) -> np.ndarray:
        """Return which of so many requested pictures are missing and have a rewritten text, (pictures,) bool."""
        found = np.zeros(pictures, bool)
        found[self.pictures[self.at_hand[self.text_of]]] = True
        return found

    def is_of_rewriter(self, picture: int, attempts: int) -> bool:
        """Return whether the failure of a missing picture with so many attempts says only that its text has failed."""
        failure = self.failed.get(int(self.text_of[np.searchsorted(self.pictures, picture)]))
        return failure is not None and attempts <= failure.attempts

    def failed_requests(self) -> Iterator[tuple[int, FailedText]]:
        """Yield the place of each missing picture whose text failed, with its text's failure."""
        if not self.failed:
            return
        has_failed = np.isin(self.text_of, np.fromiter(self.failed, np.int64, len(self.failed)))
        for picture, text in zip(self.pictures[has_failed].tolist(), self.text_of[has_failed].tolist(), strict=True):
            yield picture, self.failed[text]


def look_at_texts(
    cache: Cache, rewriter: Source, pictures: Requests, missing: np.ndarray, retry: Sequence[str]
) -> Texts:
    """Return the state of the texts of the pictures that are `missing`, (N,) bool. Failures whose reason is in `retry`
    are asked again."""
    requests = make_requests(rewriter, pictures.texts(missing), key=_key)
    at_hand = rewrite_index(cache, rewriter).find(requests.keys) >= 0
    wanted = ~at_hand
    failures = cache.failures(rewriter)
    places = requests.index.find(from_hex(failures["image_key"], f"the failures of {cache.store}"))
    facts = (failures[name].to_pylist() for name in ("reason", "message", "attempts"))
    failed = {}
    for place, reason, message, attempts in zip(places.tolist(), *facts, strict=True):
        if place >= 0:
            is_retried = bool(wanted[place]) and reason in retry
            failed[place] = FailedText(reason, message, attempts, bool(at_hand[place]), is_retried)
            wanted[place] = is_retried
    keys = bytearray()
    for text in pictures.texts(missing):
        keys += bytes.fromhex(rewrite_key(rewriter.digest, prompt_key(text)))
    text_of = requests.index.find(np.frombuffer(keys, np.uint8).reshape(-1, 32))
    return Texts(rewriter, requests, at_hand, wanted, failed, np.flatnonzero(missing), text_of)


def _key(rewriter: str, prompt: str, sample: int) -> str:
    return rewrite_key(rewriter, prompt)
