"""Masked language modelling of a student: hidden words of its texts are predicted from the others, without pictures.

This is the control of pre-training on pictures: the same texts, the same steps and no teacher. As for BERT (Devlin et
al. 2019), 15 % of the words are chosen, of which 80 % are replaced by the mask, 10 % by a random word and 10 % by none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.students.files.architectures import no_cache
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHOSEN, MASKED, REPLACED = 0.15, 0.8, 0.1


class MaskedWords(nn.Module):
    """Predicts the hidden words from the student's last hidden states, by its own word embeddings.

    `words` (V,) are the token ids that the texts have: no others are predicted, which saves most of the time. A row
    with at least one word has at least one that is chosen.
    """

    words: Tensor
    place: Tensor

    def __init__(self, model: PreTrainedModel, words: Sequence[int], mask: int) -> None:
        super().__init__()
        embedded = word_embeddings(model)
        width = embedded.shape[1]
        self.dense = nn.Linear(int(model.config.hidden_size), width)
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(len(words)))
        self.mask = mask
        place = torch.full((len(embedded),), -1)
        place[list(words)] = torch.arange(len(words))
        self.register_buffer("words", torch.tensor(words), persistent=False)
        self.register_buffer("place", place, persistent=False)

    def initialise(self, seed: int) -> None:
        """Initialise the weights from N(0, 0.02) and the biases with 0. Global random generators are not changed."""
        nn.init.normal_(self.dense.weight, 0.0, 0.02, generator=torch.Generator().manual_seed(seed))
        nn.init.zeros_(self.dense.bias)

    def forward(self, model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
        """Return for each row of a batch the summed loss of its hidden words and their number, (B, 2)."""
        ids = batch["input_ids"]
        chosen, shown = self._hide(ids)
        body: Any = model.base_model
        hidden = body(**{**batch, "input_ids": shown}, **no_cache(type(body).forward)).last_hidden_state
        points = self.norm(F.gelu(self.dense(hidden[chosen])))
        scores = points @ word_embeddings(model)[self.words].T + self.bias
        losses = F.cross_entropy(scores.float(), self.place[ids[chosen]], reduction="none")
        rows = chosen.nonzero()[:, 0]
        summed = losses.new_zeros(len(ids)).index_add(0, rows, losses)
        return torch.stack([summed, chosen.sum(1).to(summed)], 1)

    def _hide(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return which tokens (B, T) are predicted, and the token ids that the student sees instead of `ids`."""
        is_word = self.place[ids] >= 0
        drawn = torch.rand(ids.shape, device=ids.device).masked_fill(~is_word, 2.0)
        chosen = is_word & ((drawn < CHOSEN) | (drawn == drawn.min(1, keepdim=True).values))
        how = torch.rand(ids.shape, device=ids.device)
        others = self.words[torch.randint(len(self.words), ids.shape, device=ids.device)]
        shown = torch.where(chosen & (how < MASKED), self.mask, ids)
        return chosen, torch.where(chosen & (how >= 1 - REPLACED), others, shown)


def word_embeddings(model: PreTrainedModel) -> Tensor:
    """Return the embeddings of a student's input tokens, (V, E)."""
    weights: Tensor = model.get_input_embeddings().weight
    return weights


def words_of(tokenizer: Any, rows: Sequence[Sequence[int]], student: str) -> tuple[list[int], int]:
    """Return the token ids of words in rows of token ids, in their order, and the id of the mask.

    Raise ArmadaError if the tokenizer of `student` has no mask, or if the rows have no word.
    """
    if tokenizer.mask_token_id is None:
        raise ArmadaError(
            f"{student}: expected a student whose tokenizer has a mask token, as BERT's, found none: it cannot be "
            "pre-trained by masked language modelling"
        )
    words = {token for row in rows for token in row} - set(tokenizer.all_special_ids)
    if not words:
        raise ArmadaError(f"{student}: expected texts with words to pre-train on, found none")
    return sorted(words), int(tokenizer.mask_token_id)
