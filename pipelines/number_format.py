"""Numbers formatted for people: a typographic minus sign, n/a for an unknown value, units that fit."""

from __future__ import annotations


def signed(value: float | None) -> str:
    """Return a number with its sign and four decimals: +0.0123."""
    return "n/a" if value is None else f"{value:+.4f}".replace("-", "−")


def interval(ends: tuple[float | None, float | None]) -> str:
    """Return an interval by its two ends: −0.0010 to +0.0200. One point is no interval: all values were the same."""
    if None in ends:
        return "n/a"
    is_one_point = abs(ends[1] - ends[0]) < 1e-12  # type: ignore[operator]
    return "none: the spread is zero" if is_one_point else f"{signed(ends[0])} to {signed(ends[1])}"


def probability(p: float | None) -> str:
    """Return a p value, which is never printed as zero: 0.0312, <0.0001; n/a if values without spread give none."""
    if p is None or p == 0:
        return "n/a"
    return f"{p:.4f}" if p >= 0.00005 else "<0.0001"


def plain(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals."""
    return "n/a" if value is None else f"{value:.{digits}f}".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Return seconds in the unit that fits: 42 s, 3.5 min, 2.1 h."""
    if seconds is None:
        return "not measured"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def bytes_in_words(count: int) -> str:
    """Return a number of bytes in the unit that fits: 512 B, 2.58 kB, 317 MB."""
    value, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
