"""The budget of a teacher: caps on calls and money, asked before each call is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass

from teacher_cache.errors import ArmadaError


@dataclass(frozen=True)
class Budget:
    """Caps on all calls ever made for a teacher and a cache, in number and in dollars; `price_usd` is reserved before
    each call. `elsewhere` are the calls and dollars that other ledgers have spent, according to the cache's commits.
    `shared` are the digests of further sources whose calls count under the same caps: a teacher and its rewriter."""

    max_calls: int | None = None
    max_usd: float | None = None
    price_usd: float | None = None
    elsewhere: tuple[int, float] = (0, 0.0)
    shared: tuple[str, ...] = ()

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
