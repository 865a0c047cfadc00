"""The rows of the spool: a picture to request, and an answer that waits to be sealed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from teacher_cache.spool.budget import Budget
from teacher_cache.teachers import Request

# What a claim results in, see `Spool.claim_all`.
Claim = Literal["granted", "held", "in a batch", "done", "spent"]


@dataclass(frozen=True)
class Wanted:
    """A picture to request, with what the cache records beside it."""

    request: Request
    prompt_key: str
    attempts: int = 0  # earlier calls, according to its recorded failure


@dataclass(frozen=True)
class Claims:
    """Pictures to claim for a teacher (its digest), under the caps on all calls ever made for it, with what other
    ledgers have spent. `planned` is `Spool.last_seal()` before the plan was made."""

    teacher: str
    wanted: Sequence[Wanted]
    budget: Budget
    planned: int


@dataclass(frozen=True)
class SpoolRow:
    """A row that waits to be sealed: drawn (`suffix` and `sha256` are set) or failed (`reason` and `message` are)."""

    image_key: str
    prompt: str
    prompt_key: str
    sample: int
    attempts: int
    suffix: str
    sha256: str
    cost_usd: float | None
    seconds: float
    reason: str
    message: str
    bytes: int  # of the picture, 0 for a failure


COLUMNS = "image_key, prompt, prompt_key, sample, attempts, suffix, sha256, cost_usd, seconds, reason, message"
BYTES = "coalesce((SELECT length(data) FROM pictures WHERE pictures.image_key = rows.image_key), 0)"
