"""Looks: the numbers of rows at which a pilot is judged, and the level of each judgement.

One may look as often as one likes: judgements are made at fixed numbers of rows only, look k (from 1) spends
level / (k (k + 1)) of the level, and these parts add up to the level (alpha spending, Lan and DeMets 1983). What is
drawn beyond a look waits for the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 100
_STEPS = (100, 200, 300, 500, 700)  # and so on, ten times larger


@dataclass(frozen=True)
class Look:
    """A judgement from `rows` rows; all intervals of this look have 1 - `level` confidence."""

    rows: int
    level: float


def looks(level: float, up_to: int) -> list[Look]:
    """Return the looks at up to so many rows, in their order; none below FIRST rows."""
    rows = [step * 10**power for power in range(len(str(up_to))) for step in _STEPS if step * 10**power <= up_to]
    return [Look(count, level / (k * (k + 1))) for k, count in enumerate(rows, 1)]


def look_of(level: float, rows: int) -> Look | None:
    """Return the last look that so many rows allow; None if they are too few."""
    return next(reversed(looks(level, rows)), None)


def rows_for(level: float, half_width: float, at: Look, wanted: float) -> int | None:
    """Return the first look's number of rows at which an interval of half `half_width` at a look is expected to be
    `wanted` wide or narrower; None if that takes more than 100,000 rows. The width falls with the root of the rows."""
    from scipy.stats import norm

    quantile = norm.isf(at.level / 2)
    for look in looks(level, 100_000):
        expected = half_width * (at.rows / look.rows) ** 0.5 * norm.isf(look.level / 2) / quantile
        if look.rows > at.rows and expected <= wanted:
            return look.rows
    return None
