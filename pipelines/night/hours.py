"""The time of the runs: how fast the pictures came, and when they came slowest.

Minutes count only while a build was drawing, those in which nothing came as well: a server that was down is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from teacher_cache import Minute

_FULL = 0.9  # share of a window's minutes in which a build was drawing
_BARS = 120  # of the chart, at most


@dataclass(frozen=True)
class Window:
    """The minutes from `start` on, `minutes` of them: answers and calls. Times are seconds since 1970."""

    start: float
    minutes: int
    drawn: int
    failed: int
    calls: int

    @property
    def end(self) -> float:
        """When it ends, in seconds since 1970."""
        return self.start + 60 * self.minutes

    @property
    def per_minute(self) -> float:
        """Answers per minute: pictures and failures."""
        return (self.drawn + self.failed) / self.minutes

    @property
    def repeated(self) -> int:
        """Calls without an answer that counts: they were repeated, or lost."""
        return max(0, self.calls - self.drawn - self.failed)


@dataclass(frozen=True)
class Hours:
    """The pace of all minutes in which a build was drawing."""

    drawing_minutes: int = 0
    per_minute: float = 0.0  # answers, mean over these minutes
    slowest: Window | None = None  # None if the time is too short for a comparison
    fastest: Window | None = None
    bars: tuple[Window, ...] = ()  # of a chart: the whole time in equal parts


def hours_of(minutes: Sequence[Minute]) -> Hours:
    """Return the pace of some runs' minutes, in any order. The slowest and the fastest hour are those of all hours that
    begin at a full minute; if drawing took less than three hours, parts of ten minutes or one are compared instead."""
    if not minutes:
        return Hours()
    stamps = np.array([one.minute for one in minutes], np.int64)
    values = np.array([(one.drawn, one.failed, one.calls) for one in minutes], np.int64)
    places, rows = np.unique(stamps, return_inverse=True)
    sums = np.zeros((len(places), 3), np.int64)
    np.add.at(sums, rows, values)
    answers = int(sums[:, :2].sum())
    size = next((size for size in (60, 10, 1) if len(places) >= 3 * size), 0)
    slowest, fastest = _extremes(places, sums, size) if size else (None, None)
    return Hours(len(places), answers / len(places), slowest, fastest, _bars(places, sums))


def _extremes(places: np.ndarray, sums: np.ndarray, size: int) -> tuple[Window | None, Window | None]:
    """Return the windows of so many minutes with the fewest and the most answers, among those that are full."""
    ends = np.searchsorted(places, places + size)
    begins = np.arange(len(places))
    counts = ends - begins
    total = np.vstack([np.zeros((1, 3), np.int64), np.cumsum(sums, axis=0)])
    inside = total[ends] - total[begins]
    full = np.flatnonzero(counts >= _FULL * size)
    if size == 1 and len(full) > 2:
        full = full[1:-1]  # the first and the last minute are parts of one
    if not len(full):
        return None, None
    rates = inside[full, :2].sum(axis=1) / counts[full]
    chosen = (int(full[np.argmin(rates)]), int(full[np.argmax(rates)]))
    slowest, fastest = (_window(int(places[at]), size, inside[at]) for at in chosen)
    return slowest, fastest


def _bars(places: np.ndarray, sums: np.ndarray) -> tuple[Window, ...]:
    first, span = int(places[0]), int(places[-1] - places[0]) + 1
    size = -(-span // _BARS)
    count = -(-span // size)
    total = np.zeros((count, 3), np.int64)
    np.add.at(total, (places - first) // size, sums)
    return tuple(_window(first + number * size, size, row) for number, row in enumerate(total))


def _window(minute: int, size: int, row: np.ndarray) -> Window:
    return Window(60.0 * minute, size, *(int(value) for value in row))
