"""Pairs: how a tokenizer tells the two texts of a row apart.

The tokenizers of encoders have a template for pairs. Many of decoders have none, and join two texts as if they were
one. Such a tokenizer gets a template here, with a separator between the texts: its own separator token, or else its end
token. The export has the template too, so stock `tokenizer(first, second)` returns the tokens that the student learned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def has_separator(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return True if the tokenizer puts a special token between the two texts of a pair."""
    return bool(tokenizer.num_special_tokens_to_add(pair=True) > tokenizer.num_special_tokens_to_add(pair=False))


def add_separator(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Let the tokenizer separate pairs; return the token that does so, or None if it needs none or can't have one.

    Single texts are tokenised as before.
    """
    separator = tokenizer.sep_token or tokenizer.eos_token
    if has_separator(tokenizer) or separator is None or not tokenizer.is_fast:
        return None
    from tokenizers import processors

    start, end = _around(tokenizer)
    ids = {*start, *end, tokenizer.convert_tokens_to_ids(separator)}
    names = dict(zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True))
    before, after = [names[one] for one in start], [names[one] for one in end]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after],
        pair=[*before, "$A", separator, "$B", *after],
        special_tokens=[(token, number) for number, token in names.items()],
    )
    return str(separator)


def check_pairs(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ArmadaError if the tokenizer would join the two texts of a pair. `name` is the student's name."""
    if not has_separator(tokenizer):
        raise ArmadaError(
            f"{name}: expected a tokenizer that separates the two texts of a pair, or a fast one with a separator "
            f"token or an end token to do so, found {type(tokenizer).__name__} with neither"
        )


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after a single text: one of the tokenizer's own words."""
    special = set(tokenizer.all_special_ids)
    words = (tokenizer.decode([number]) for number in range(len(tokenizer)) if number not in special)
    text = next(word for word in words if tokenizer(word, add_special_tokens=False)["input_ids"])
    bare, whole = tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer(text)["input_ids"]
    start = next(place for place in range(len(whole) + 1) if whole[place : place + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]
