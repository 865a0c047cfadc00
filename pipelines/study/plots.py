"""The positions of a plot's marks, in per cent of its width and height. The template draws them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class AxisScale:
    """A linear axis from `low` to `high` with round ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return the position of a value, 0 to 100."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def label(self, tick: float) -> str:
        """Return a tick as text, with the decimals that its step needs."""
        step = self.ticks[1] - self.ticks[0]
        return f"{tick + 0.0:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "−")


@dataclass(frozen=True)
class Curve:
    """A line: its name, the points of an SVG polyline in a 100 x 100 box, and its last value."""

    name: str
    points: str
    last: float


@dataclass(frozen=True)
class Curves:
    """Lines over epochs on one scale."""

    scale: AxisScale
    epochs: int
    lines: tuple[Curve, ...]


def scale_of(values: Sequence[float]) -> AxisScale:
    """Return an axis that contains all values, with three to six ticks at 1, 2 or 5 times a power of ten."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high - low < 1e-9:
        low, high = low - 0.01, high + 0.01
    raw = (high - low) / 4
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(number * step, 12) for number in range(first, last + 1))
    return AxisScale(ticks[0], ticks[-1], ticks)


def curves(values: Mapping[str, Sequence[float]]) -> Curves | None:
    """Return lines of losses by epoch; None if there are fewer than two epochs."""
    epochs = max((len(line) for line in values.values()), default=0)
    if epochs < 2:
        return None
    scale = scale_of([value for line in values.values() for value in line])

    def points(line: Sequence[float]) -> str:
        places = (100 * epoch / (epochs - 1) for epoch in range(len(line)))
        return " ".join(f"{x:.2f},{100 - scale.place(y):.2f}" for x, y in zip(places, line, strict=True))

    return Curves(scale, epochs, tuple(Curve(name, points(line), line[-1]) for name, line in values.items()))
