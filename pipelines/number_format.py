"""Numbers as a person reads them: a real minus sign, n/a for what isn't known, units that fit."""

from __future__ import annotations


def signed(value: float | None) -> str:
    return "n/a" if value is None else f"{value:+.4f}".replace("-", "−")


def interval(ends: tuple[float | None, float | None]) -> str:
    return "n/a" if None in ends else f"{signed(ends[0])} to {signed(ends[1])}"


def plain(value: float | None, digits: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Seconds in words: 42 s, 3.5 min, 2.1 h."""
    if seconds is None:
        return "not measured"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
