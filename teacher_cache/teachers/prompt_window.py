"""The window of a teacher: how many tokens of a prompt it reads. What lies beyond never reaches its pictures.

A teacher that knows its window has the attribute `window`, a PromptWindow; of all others nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from teacher_cache.registry.packages import import_package, quiet_transformers
from teacher_cache.teachers import Teacher

if TYPE_CHECKING:
    import pyarrow as pa

_NO_LIMIT = 100_000  # tokens; a tokenizer without a limit has a huge number
_MOST_PROMPTS = 50_000  # prompts that are tokenised for a count; of more, evenly spaced ones


@dataclass(frozen=True)
class PromptWindow:
    """The most tokens that a teacher reads of a prompt, and its tokenizer's count, with start and end tokens."""

    tokens: int
    count: Callable[[Sequence[str]], list[int]]


@dataclass(frozen=True)
class BeyondWindow:
    """How many of the prompts that were counted have tokens beyond the teacher's window."""

    window_tokens: int
    prompts: int
    counted: int
    longest_tokens: int

    def in_words(self, teacher: str = "the teacher") -> str:
        """Return the count as a sentence for the user."""
        return (
            f"{self.prompts} of {self.counted} prompts are longer than the {self.window_tokens} tokens that {teacher} "
            f"reads (the longest has {self.longest_tokens}): it never sees their end; put the field that decides first "
            "in the prompt template of the card"
        )


def beyond_window(teacher: Teacher, prompts: pa.ChunkedArray | Sequence[str]) -> BeyondWindow | None:
    """Count the prompts that a teacher does not read to their end; None if it does not know its window.

    Loads the teacher's tokenizer, but no model. Of more than 50,000 prompts, so many are counted, evenly spaced.
    """
    window: PromptWindow | None = getattr(teacher, "window", None)
    return count_beyond(window, prompts) if window and len(prompts) else None


def count_beyond(window: PromptWindow, prompts: pa.ChunkedArray | Sequence[str]) -> BeyondWindow:
    """Count as `beyond_window` does."""
    step = max(1, -(-len(prompts) // _MOST_PROMPTS))
    chosen = [str(prompts[place]) for place in range(0, len(prompts), step)]
    # A token has at least one byte, so that a short text fits without being tokenised.
    long = [prompt for prompt in chosen if len(prompt.encode("utf-8")) > window.tokens - 2]
    counts = window.count(long) if long else []
    cut = sum(count > window.tokens for count in counts)
    return BeyondWindow(window.tokens, cut, len(chosen), max(counts, default=0))


def clip_window() -> PromptWindow:
    """Return the window of CLIP's text encoder, which Stable Diffusion and many others read prompts with."""
    tokenizer = import_package("open_clip.tokenizer", distribution="open_clip_torch", purpose="CLIP's tokenizer")
    encode = tokenizer.SimpleTokenizer().encode
    return PromptWindow(77, lambda prompts: [len(encode(prompt)) + 2 for prompt in prompts])


def window_of_tokenizers(source: str, revision: str) -> PromptWindow | None:
    """Return the window of a pipeline of diffusers, which is that of the longest of its tokenizers.

    `source` is its folder or hub id. None if no tokenizer can be loaded, or if it has no limit.
    """
    from transformers import AutoTokenizer

    found = []
    for name in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        if Path(source).is_dir() and not Path(source, name).is_dir():
            continue
        try:
            with quiet_transformers():
                found.append(AutoTokenizer.from_pretrained(source, subfolder=name, revision=revision or None))
        except (OSError, ValueError, KeyError):
            continue  # this pipeline has fewer tokenizers, or one that transformers does not know
    longest = max(found, key=lambda one: one.model_max_length, default=None)
    if longest is None or longest.model_max_length > _NO_LIMIT:
        return None

    def count(prompts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in longest(list(prompts), verbose=False)["input_ids"]]

    return PromptWindow(int(longest.model_max_length), count)
