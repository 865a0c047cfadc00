"""The budget of a teacher: a cap on its calls and on their cost, asked before a call is sent."""

from __future__ import annotations

from dataclasses import dataclass


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
