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
