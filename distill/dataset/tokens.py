"""Tokens: rows of text as a student reads them, tokenised once for all epochs, padded by the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts of different lengths. `truncated` counts those cut at the limit."""

    columns: dict[str, list[list[int]]]
    pad: dict[str, int]
    truncated: int

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens a row."""
        return np.array([len(row) for row in self.columns["input_ids"]], np.int64)

    def batch(self, rows: Sequence[int] | np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """(B, T) tensors padded on the right to the longest of these rows."""
        longest = max(len(self.columns["input_ids"][row]) for row in rows)
        batch = {}
        for name, column in self.columns.items():
            padded = np.full((len(rows), longest), self.pad[name], np.int64)
            for place, row in enumerate(rows):
                padded[place, : len(column[row])] = column[row]
            batch[name] = torch.from_numpy(padded).to(device, non_blocking=True)
        return batch


def tokenize(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int) -> Tokens:
    """Tokenise rows of one or two fields; a row over `max_length` tokens is cut, the longer field first."""
    fields = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*fields, truncation=False, verbose=False)
    truncated = sum(len(row) > max_length for row in encoded["input_ids"])
    if truncated:
        encoded = tokenizer(*fields, truncation=True, max_length=max_length)
    pad = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return Tokens({name: encoded[name] for name in COLUMNS if name in encoded}, pad, truncated)
