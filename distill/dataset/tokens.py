"""Tokenised texts: tokenised once for all epochs, padded per batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from distill.dataset.moving import moved

BASE_LENGTH = 128  # the default limit, unless over 1 % of the rows are longer
COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


class Tokenizer(Protocol):
    """What `tokenize` needs of a tokenizer of transformers."""

    pad_token_id: int

    def __call__(self, *fields: list[str], **options: Any) -> Mapping[str, list[list[int]]]:
        """Return columns of token ids and masks, one list per row."""


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts of different lengths."""

    columns: dict[str, list[list[int]]]  # by the name of the model's input
    pad: dict[str, int]  # the padding value of each column
    truncated: int  # rows that were cut at the limit

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64, the number of tokens per row: of its longest column, if it has several texts."""
        return np.array([max(map(len, row)) for row in zip(*self.columns.values(), strict=True)], np.int64)

    def batch(self, rows: Sequence[int] | np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """Return (B, T) int64 tensors of these rows, padded on the right to the longest of them."""
        longest = max(len(column[row]) for column in self.columns.values() for row in rows)
        batch = {}
        for name, column in self.columns.items():
            padded = np.full((len(rows), longest), self.pad[name], np.int64)
            for place, row in enumerate(rows):
                padded[place, : len(column[row])] = column[row]
            batch[name] = moved(padded, device)
        return batch


def default_length(lengths: np.ndarray, positions: int) -> int:
    """Return the default limit of tokens for rows of these lengths (N,): their 99th percentile, and at least 128.

    It is not more than the `positions` of the student, unless they are fewer than 128.
    """
    percentile = int(np.percentile(lengths, 99, method="inverted_cdf")) if len(lengths) else 0
    return max(BASE_LENGTH, min(percentile, positions))


def tokenize(tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int | None = None) -> Tokens:
    """Tokenise rows of one or two fields. Rows longer than `max_length` tokens are cut, the longer field first."""
    fields = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*fields, truncation=False, verbose=False)
    max_length = max_length or max(map(len, encoded["input_ids"]), default=0)
    truncated = sum(len(row) > max_length for row in encoded["input_ids"])
    if truncated:
        encoded = tokenizer(*fields, truncation=True, max_length=max_length)
    pad = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return Tokens({name: encoded[name] for name in COLUMNS if name in encoded}, pad, truncated)
