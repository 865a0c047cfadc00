"""The options of a build besides its prompts, its teacher and its encoder, and the budget that they set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from teacher_cache.errors import ArmadaError


@dataclass(frozen=True)
class BuildOptions:
    """What to build, how much to spend, and when to seal."""

    samples: int = 1  # pictures per prompt
    limit: int | None = None  # build only the first unique prompts
    max_calls: int | None = None  # of the teacher, over all builds of the cache
    budget_usd: float | None = None  # for the teacher, over all builds of the cache
    attempts: int = 5  # calls per picture in one build if they fail transiently
    shard_rows: int = 8192  # pictures per shard, at most
    seal_rows: int = 2048  # seal when so many pictures are in the spool,
    seal_seconds: float = 600.0  # or so long after the last seal: other hosts see only sealed pictures
    format: str = "parquet"  # or webdataset
    retry: Sequence[str] = ()  # reasons of earlier failures to request again
    redraw_missing: bool = False  # files that commits name and the cache lacks are gone for good: draw them again
    prompts: str = ""  # where the prompts came from, for the dataset card

    def __post_init__(self) -> None:
        """Raise ArmadaError for a number that is not finite, or negative."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, int | float) and not 0 <= value < math.inf:
                flag = one.name.replace("_", "-")
                raise ArmadaError(f"--{flag}: expected a finite number of at least 0, found {value}")


@dataclass(frozen=True)
class Budget:
    """Caps on all calls ever made for a teacher and a cache, in number and in dollars; `price_usd` is reserved before
    each call. `elsewhere` are the calls and dollars that other ledgers have spent, according to the cache's commits."""

    max_calls: int | None = None
    max_usd: float | None = None
    price_usd: float | None = None
    elsewhere: tuple[int, float] = (0, 0.0)

    def __post_init__(self) -> None:
        """Raise ArmadaError for a budget or a price that is negative, infinite or no number."""
        for name, value in (("--budget-usd", self.max_usd), ("the teacher's price", self.price_usd)):
            if value is not None and not 0 <= value < math.inf:
                raise ArmadaError(f"{name}: expected dollars, 0 or more, found {value!r}")

    @property
    def is_limited(self) -> bool:
        """Whether there is a cap."""
        return self.max_calls is not None or self.max_usd is not None

    def allows(self, calls: int, usd: float) -> bool:
        """Return whether one more call is within the caps, after `calls` from this ledger that cost `usd` dollars."""
        calls, usd = calls + self.elsewhere[0], usd + self.elsewhere[1]
        if self.max_calls is not None and calls >= self.max_calls:
            return False
        return self.max_usd is None or usd + (self.price_usd or 0.0) <= self.max_usd + 1e-9
