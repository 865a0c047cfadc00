"""Prices: what a picture costs before a call, and what a call cost by the `usage` that its reply states.

The table prices.yaml, with its dates and sources, is for OpenAI's own server; the user's own table is for any server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teacher_cache.errors import SpecError

_TABLE = Path(__file__).with_name("prices.yaml")
_TOKENS = ("text_input", "image_input", "image_output", "text_output")
_FACTS = ("date", "source", "tokens", "pictures")
_MOST_TOKENS = 1_000_000_000  # a usage beyond this is a fault of the server


@dataclass(frozen=True)
class Prices:
    """Dollars per picture, or None if unknown, and dollars per million tokens by the kind of token."""

    picture: float | None = None
    tokens: Mapping[str, float] = field(default_factory=dict)

    def cost_of(self, usage: Mapping[str, Any]) -> float | None:
        """Return the dollars that a call cost by its usage; None if the usage cannot be read or a price is unknown."""
        counts = _token_counts(usage)
        if not counts or any(number and kind not in self.tokens for kind, number in counts.items()):
            return None
        return sum(number * self.tokens[kind] for kind, number in counts.items() if number) / 1_000_000


def read_prices(text: str, model: str, size: str, quality: str, *, file: str = "", is_openai: bool = False) -> Prices:
    """Return the prices of a model from a user's table `file`, or else, for OpenAI's own server, from the shipped one.

    The entry of a model is {"SIZE QUALITY", SIZE, QUALITY or default: dollars per picture}, or has these under
    `pictures` and {text_input, image_input, image_output: dollars per million} under `tokens`. Raises SpecError, naming
    the spec `text`, if the user's table can't be read, has no entry for the model or one that is no price.
    """
    if not file and not is_openai:
        return Prices()
    import yaml

    try:
        table = yaml.safe_load(Path(file or _TABLE).expanduser().read_text("utf-8"))
        if not file and model not in table:
            return Prices()
        entry = dict(table[model])
        pictures = entry.get("pictures", {name: price for name, price in entry.items() if name not in _FACTS})
        tokens = {name: check_price(text, price) for name, price in entry.get("tokens", {}).items()}
        prices = {str(name): check_price(text, price) for name, price in pictures.items()}
        if set(tokens) - set(_TOKENS):
            raise KeyError(*sorted(set(tokens) - set(_TOKENS)))
        names = (f"{size} {quality}", size, quality, "default")
        found = next((prices[name] for name in names if name in prices), None)
        if found is None and not tokens:
            raise KeyError("default")
        return Prices(found, tokens)
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
        expected = (
            f"expected {{{model}: {{'SIZE QUALITY' or default: dollars per picture}}}}, or these under `pictures` and "
            f"dollars per million of {', '.join(_TOKENS)} under `tokens`"
        )
        raise SpecError(f"{text}: {file}: {expected}") from None


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
