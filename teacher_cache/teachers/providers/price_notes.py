"""Prices in words: what a picture costs, how old that price is, and that a model is retired or will be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from teacher_cache.teachers import Teacher
from teacher_cache.teachers.prices import BATCH_FACTOR, Prices

WARN_DAYS = 180  # before a model's retirement


@dataclass(frozen=True)
class PriceNotes:
    """What is known of a teacher's prices on a day. `usd` is per picture, None if unknown, and 0 or None if it is free;
    `batch_usd` is None if the provider doesn't sell this model by batch, or the teacher buys by batch already."""

    usd: float | None
    batch_usd: float | None
    basis: str  # where the price is from and how old it is, or ""
    warning: str  # of the model's retirement, or ""
    is_exact: bool = True  # False if the price is the highest of several


def price_notes(teacher: Teacher, today: date | None = None) -> PriceNotes:
    """Return what is known of a teacher's prices, before any call."""
    today = today or date.today()
    prices = getattr(teacher, "prices", None)
    if not isinstance(prices, Prices):
        return PriceNotes(teacher.price_usd, None, "", "")
    known = [usd for usd in (teacher.price_usd, prices.picture) if usd is not None]
    usd = min(known, default=None)  # a teacher raises its own when pictures turn out to cost more; a batch's is lower
    by_batch = prices.batch and usd is not None and usd == prices.picture
    return PriceNotes(
        usd,
        BATCH_FACTOR * usd if by_batch and usd is not None else None,
        _basis(prices, today),
        _warning(str(teacher.spec.get("model", "")), prices, today),
        prices.exact,
    )


def _basis(prices: Prices, today: date) -> str:
    if prices.of is None:
        return prices.source
    age = (today - prices.of).days
    old = f", {age:,} day{'s' if age != 1 else ''} old" if age >= 0 else ""
    bound = "" if prices.exact else "at most, as size or quality is left to the server; "
    return f"{bound}prices of {prices.of.isoformat()}{old}{f', from {prices.source}' if prices.source else ''}"


def _warning(model: str, prices: Prices, today: date) -> str:
    """Return a warning if the model is retired, or will be within WARN_DAYS; else ""."""
    if prices.retires is None or (left := (prices.retires - today).days) > WARN_DAYS:
        return ""
    instead = f"; instead: {prices.instead}" if prices.instead else ""
    if left <= 0:
        return f"{model} was retired on {prices.retires.isoformat()}: its provider no longer draws with it{instead}"
    days = f"{left} day{'s' if left > 1 else ''}"
    return f"{model} will be retired on {prices.retires.isoformat()}, in {days}: build before that{instead}"
