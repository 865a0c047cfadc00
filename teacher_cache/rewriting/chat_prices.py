"""What a rewritten text costs: at most before the call, and by the `usage` of its reply afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from teacher_cache.errors import SpecError
from teacher_cache.teachers.prices import check_price

_TABLE = Path(__file__).with_name("chat_prices.yaml")
_KINDS = ("text_input", "text_output")
_FRAME_TOKENS = 32  # that a chat's format adds to its messages, generously
_MOST_TOKENS = 1_000_000_000  # a usage beyond this is a fault of the server


@dataclass(frozen=True)
class Usage:
    """The tokens that a server counted for one call."""

    input: int
    output: int


@dataclass(frozen=True)
class ChatPrices:
    """Dollars per call, if the user states them, and dollars per million tokens of input and output, if known."""

    call: float | None = None
    tokens: tuple[float, float] | None = None

    def at_most(self, messages: str, max_tokens: int) -> float | None:
        """Return the most that a call can cost; None if no price is known. A token has at least one byte."""
        if self.call is not None or self.tokens is None:
            return self.call
        return self.cost_of(Usage(len(messages.encode("utf-8")) + _FRAME_TOKENS, max_tokens))

    def cost_of(self, usage: Usage | None) -> float | None:
        """Return what a call cost by its usage; the stated price, if there is one; None if neither is known."""
        if self.call is not None or self.tokens is None or usage is None:
            return self.call
        return (usage.input * self.tokens[0] + usage.output * self.tokens[1]) / 1_000_000


def read_chat_prices(text: str, model: str, *, price: str, file: str, is_openai: bool) -> ChatPrices:
    """Return the prices of a model: `price` per call, or of the user's table `file`, or, for OpenAI's own server, of
    the shipped one.

    Raises SpecError, naming the spec `text`, if a price is none, or the user's table has no entry for the model.
    """
    if price:
        try:
            return ChatPrices(call=check_price(text, price))
        except SpecError:
            raise SpecError(f"{text}: option price expects dollars per text, 0 or more, found {price!r}") from None
    if not file and not is_openai:
        return ChatPrices()
    import yaml

    try:
        table = yaml.safe_load(Path(file or _TABLE).expanduser().read_text("utf-8"))
        if not file and model not in table:
            return ChatPrices()
        tokens = table[model]["tokens"]
        return ChatPrices(tokens=(check_price(text, tokens[_KINDS[0]]), check_price(text, tokens[_KINDS[1]])))
    except (OSError, yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError, RecursionError):
        expected = f"expected {{{model}: {{tokens: {{{', '.join(_KINDS)}: dollars per million}}}}}}"
        raise SpecError(f"{text}: {file}: {expected}") from None


def usage_of(reply: Mapping[str, Any]) -> Usage | None:
    """Return the tokens that a reply states; None if it states none, or what can't be."""
    usage = reply.get("usage")
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    numbers = [count for count in counts if type(count) is int and 0 <= count <= _MOST_TOKENS]
    return Usage(*numbers) if len(numbers) == 2 else None
