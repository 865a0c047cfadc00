"""Prices: what a picture costs before a call, and what a call cost by the `usage` that its reply states.

The table prices.yaml has a section per provider, with dates and sources; a user's own table is for any server. A batch
costs `BATCH_FACTOR` of these prices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from teacher_cache.errors import SpecError

BATCH_FACTOR = 0.5  # of the price, for pictures that are bought by batch
_TABLE = Path(__file__).with_name("prices.yaml")
_TOKENS = ("text_input", "image_input", "image_output", "text_output")
_FACTS = ("date", "source", "tokens", "pictures", "megapixel", "retires", "instead", "batch")
_MOST_TOKENS = 1_000_000_000  # a usage beyond this is a fault of the server
_TICKS = 10**10  # per dollar, in a usage that states `cost_in_usd_ticks`
_MEGAPIXEL = 1 << 20  # 1024 x 1024


@dataclass(frozen=True)
class Prices:
    """Dollars per picture, or None if unknown, and dollars per million tokens by the kind of token.

    `exact` is False if the price is the highest of several that the server may choose from. `of` is when the prices
    were read at `source`. `retires` is the day from which the model is no longer served, if it is known, and `instead`
    names its successor. `batch` says whether the provider sells this model by batch.
    """

    picture: float | None = None
    tokens: Mapping[str, float] = field(default_factory=dict)
    exact: bool = True
    of: date | None = None
    source: str = ""
    retires: date | None = None
    instead: str = ""
    batch: bool = False

    def cost_of(self, usage: Mapping[str, Any]) -> float | None:
        """Return the dollars that a call cost by its usage; None if the usage cannot be read or a price is unknown."""
        ticks = usage.get("cost_in_usd_ticks")
        if type(ticks) is int and 0 <= ticks <= 1000 * _TICKS:
            return ticks / _TICKS
        counts = _token_counts(usage)
        if not counts or any(number and kind not in self.tokens for kind, number in counts.items()):
            return None
        return sum(number * self.tokens[kind] for kind, number in counts.items() if number) / 1_000_000


def batch_prices(prices: Prices) -> Prices:
    """Return the prices of the same pictures when they are bought by batch."""
    picture = None if prices.picture is None else prices.picture * BATCH_FACTOR
    tokens = {kind: usd * BATCH_FACTOR for kind, usd in prices.tokens.items()}
    return replace(prices, picture=picture, tokens=tokens, batch=False)


def read_prices(
    text: str,
    model: str,
    size: str,
    quality: str,
    *,
    file: str = "",
    is_openai: bool = False,
    provider: str = "",
) -> Prices:
    """Return the prices of a model from a user's table `file`, or else from the shipped table's section of a provider
    (`is_openai`: that of OpenAI).

    The entry of a model is {"SIZE QUALITY", SIZE, QUALITY or default: dollars per picture}, or has these under
    `pictures`, {first, further: dollars} under `megapixel`, and {text_input, image_input, image_output: dollars per
    million} under `tokens`. Raises SpecError, naming the spec `text`, if the user's table can't be read, has no entry
    for the model or one that is no price.
    """
    section = provider or ("openai" if is_openai else "")
    if not file and not section:
        return Prices()
    import yaml

    try:
        table = yaml.safe_load(Path(file or _TABLE).expanduser().read_text("utf-8"))
        if not file:
            table = table.get(section, {})
            if model not in table:
                return Prices()
        return _prices(text, dict(table[model]), size, quality)
    except (OSError, yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        expected = (
            f"expected {{{model}: {{'SIZE QUALITY' or default: dollars per picture}}}}, or these under `pictures` and "
            f"dollars per million of {', '.join(_TOKENS)} under `tokens`"
        )
        raise SpecError(f"{text}: {file}: {expected}") from None


def _prices(text: str, entry: dict[str, Any], size: str, quality: str) -> Prices:
    """Return the prices of a table's entry. Raises KeyError, TypeError or ValueError if it is none."""
    pictures = entry.get("pictures", {name: price for name, price in entry.items() if name not in _FACTS})
    tokens = {name: check_price(text, price) for name, price in entry.get("tokens", {}).items()}
    prices = {str(name): check_price(text, price) for name, price in pictures.items()}
    if set(tokens) - set(_TOKENS):
        raise KeyError(*sorted(set(tokens) - set(_TOKENS)))
    names = (f"{size} {quality}", size, quality, "default")
    name = next((name for name in names if name in prices), "")
    found = prices.get(name)
    if found is None and "megapixel" in entry:
        found = _by_megapixels(entry["megapixel"], size)
    if found is None and not tokens:
        raise KeyError("default")
    days = {name: entry.get(name) for name in ("date", "retires")}
    if any(day is not None and type(day) is not date for day in days.values()):
        raise TypeError("expected dates as YYYY-MM-DD")
    return Prices(
        found,
        tokens,
        exact=name == names[0] or len(prices) <= 1,
        of=days["date"],
        source=str(entry.get("source", "")),
        retires=days["retires"],
        instead=str(entry.get("instead", "")),
        batch=bool(entry.get("batch", False)),
    )


def _by_megapixels(entry: Mapping[str, Any], size: str) -> float:
    """Return the price of a picture of WIDTHxHEIGHT pixels (by default of one megapixel, begun ones count)."""
    width, _, height = (size or "1024x1024").partition("x")
    megapixels = max(1, math.ceil(int(width) * int(height) / _MEGAPIXEL))
    first, further = (check_price("", entry[name]) for name in ("first", "further"))
    return first + (megapixels - 1) * further


def check_price(text: str, value: Any) -> float:
    """Return a price in dollars. Raises SpecError, naming the spec `text`, if it is no number from 0 on."""
    try:
        price = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        price = math.nan
    if not 0 <= price < math.inf:
        raise SpecError(f"{text}: expected a price in dollars, 0 or more, found {value!r}")
    return price


def _token_counts(usage: Mapping[str, Any]) -> dict[str, int]:
    """Return the numbers of tokens of a usage by their kind; {} if it does not state them as numbers."""
    total_in, total_out = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    read, written = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    image_in = _count(read, "image_tokens") if isinstance(read, dict) else 0
    text_out = _count(written, "text_tokens") if isinstance(written, dict) else 0
    if total_in is None or total_out is None or image_in is None or text_out is None:
        return {}
    if image_in > total_in or text_out >= total_out:  # a picture that came is no picture of 0 tokens
        return {}
    return {
        "text_input": total_in - image_in,
        "image_input": image_in,
        "image_output": total_out - text_out,
        "text_output": text_out,
    }


def _count(usage: Mapping[str, Any], name: str) -> int | None:
    """Return a number of tokens, 0 if a detail is not stated, or None if it is no such number."""
    value = usage.get(name, 0 if name in ("image_tokens", "text_tokens") else None)
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
