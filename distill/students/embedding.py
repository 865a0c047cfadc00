"""Embedding students: a stock model without a task head, whose embedding of a text is the mean of its last states.

Two texts are as similar as the cosine of their embeddings. In a batch, the columns of the second text have the names of
the first text's with a prefix. The pooled output s of a row, which distillation projects into the manifold, is the mean
of its two embeddings: the picture of a row shows both texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.dataset.tokens import Tokens, tokenize
from distill.objective.score_scale import Scale
from distill.students.files.architectures import no_cache

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SECOND = "second_"  # before the names of the second text's columns


def embedding_class(config: PretrainedConfig) -> Any:
    """Return the Auto class that loads an embedding student: only the encoder, if it has a decoder too."""
    from transformers import AutoModel, AutoModelForTextEncoding

    return AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[tuple[str, ...]], max_length: int | None = None
) -> Tokens:
    """Tokenise the two texts of each row one by one; a row is as long as the longer of them."""
    first, second = (tokenize(tokenizer, [(row[place],) for row in texts], max_length) for place in (0, 1))
    columns = {**first.columns, **{f"{SECOND}{name}": column for name, column in second.columns.items()}}
    pad = {**first.pad, **{f"{SECOND}{name}": value for name, value in second.pad.items()}}
    return Tokens(columns, pad, _cut_rows(tokenizer, texts, max_length, (first.truncated, second.truncated)))


def _cut_rows(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[tuple[str, ...]],
    max_length: int | None,
    cut: tuple[int, int],
) -> int:
    """Return how many rows have a text that is cut, given how often the first text is cut, and the second."""
    if not all(cut) or max_length is None:
        return sum(cut)
    lengths = tokenize_pairs(tokenizer, texts).lengths  # whole
    return int((lengths > max_length).sum())


def embed(model: PreTrainedModel, tokens: Mapping[str, Tensor]) -> Tensor:
    """Return the embeddings (B, H) of texts: the means of the last states over the tokens that are not padding."""
    states = model(**tokens, **no_cache(type(model).forward))[0]  # (B, T, H)
    mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
    mean: Tensor = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
    return mean


def pooled_and_cosines(model: PreTrainedModel, tokens: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return s (B, H), the means of the two embeddings of each row, and their cosines (B, 1)."""
    names = [name for name in tokens if not name.startswith(SECOND)]
    both = {name: torch.cat([tokens[name], tokens[f"{SECOND}{name}"]]) for name in names}  # (2B, T)
    first, second = embed(model, both).float().chunk(2)
    return (first + second) / 2, F.cosine_similarity(first, second).unsqueeze(1)


class Cosines(nn.Module):
    """An embedding student as a model of one logit, the cosine of a row's two texts."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.config = SimpleNamespace(num_labels=1)

    def forward(self, **tokens: Tensor) -> SimpleNamespace:
        """Return the logits (B, 1)."""
        return SimpleNamespace(logits=pooled_and_cosines(self.model, tokens)[1])


def cosine_scale(labels: Sequence[float]) -> Scale:
    """Return the scale that maps labels to cosines: the lowest of the training rows to 0, and the highest to 1.

    Labels from -1 to 1, with some below 0, are cosines already.
    """
    low, high = min(labels), max(labels)
    if -1 <= low < 0 and high <= 1:
        return Scale()
    return Scale(float(low), float(high - low) or 1.0)
