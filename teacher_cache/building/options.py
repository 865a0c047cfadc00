"""What a build is asked to do beside its prompts, its teacher and its encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BuildOptions:
    """What to build and when to seal. Rows are pictures; `seal_seconds` bounds what another machine can't see yet.
    `attempts` is how often a call that failed in passing is made in one build. `prompts` names where the prompts came
    from, for the card."""

    samples: int = 1
    limit: int | None = None
    max_calls: int | None = None
    budget_usd: float | None = None
    attempts: int = 5
    shard_rows: int = 8192
    seal_rows: int = 2048
    seal_seconds: float = 600.0
    format: str = "parquet"
    retry: Sequence[str] = ()
    prompts: str = ""


# --- merged: teacher_cache.building.options
# The budget of a teacher: a cap on its calls and on their cost, asked before a call is sent.
@dataclass(frozen=True)
class Budget:
    """Caps on all calls ever made here for a teacher, in number and in money; `price_usd` is reserved for each."""

    max_calls: int | None = None
    max_usd: float | None = None
    price_usd: float | None = None

    @property
    def is_limited(self) -> bool:
        """Whether there is a cap at all."""
        return self.max_calls is not None or self.max_usd is not None

    def allows(self, calls: int, usd: float) -> bool:
        """Whether one more call fits, after `calls` that cost `usd`."""
        if self.max_calls is not None and calls >= self.max_calls:
            return False
        return self.max_usd is None or usd + (self.price_usd or 0.0) <= self.max_usd + 1e-9
