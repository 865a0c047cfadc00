"""The prompts that are drawn: what a teacher's recipe makes of the texts of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teacher_cache.errors import CacheError
from teacher_cache.format.recipes import Recipe
from teacher_cache.keys import prompt_key
from teacher_cache.rewriting.rows import RewriteTable, rewrite_table
from teacher_cache.storage.cache import Cache


@dataclass
class DrawnPrompts:
    """The prompts that a recipe makes; `rewrites` is what its rewriter made of the texts, once it has."""

    recipe: Recipe
    rewrites: RewriteTable | None = None

    def load(self, cache: Cache) -> None:
        """Read what the rewriter made of the texts."""
        if self.recipe.rewriter:
            self.rewrites = rewrite_table(cache, self.recipe.rewriter)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the drawn prompts of some texts. Raise CacheError if one was not rewritten."""
        if self.recipe.rewriter is None:
            return [self.recipe.drawn(text) for text in texts]
        found = self.rewrites.find(map(prompt_key, texts)) if self.rewrites else [None] * len(texts)
        prompts = [self.recipe.drawn(rewritten) for rewritten in found if rewritten is not None]
        if len(prompts) < len(texts):
            raise CacheError(
                "texts of pictures to draw are not rewritten any more: another process removed their shards; run the "
                "same command again"
            )
        return prompts
