"""Task models: how the type of a task card determines loading, targets and evaluation of its student.

Classification, multi-label, regression and choice cards use a classifier, generation cards a causal language model, and
similarity cards an embedding student (similarity.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from distill.cards.cards import Card
from distill.dataset.tokens import Tokens, default_length, tokenize
from distill.objective.score_scale import AS_IS, Scale, fold_scale, scale_of, unfold_scale
from distill.settings import TrainSettings
from distill.students.embedding import embedding_class, tokenize_pairs
from distill.students.evaluation import predict
from distill.students.files.architectures import check_architecture, positions_of, skeleton
from distill.students.files.pairs import check_pairs
from distill.students.files.student_files import load_config, load_tokenizer
from distill.students.files.weights import trained_weights
from distill.students.generation import generate, load_generator, tokenize_answers
from distill.students.heads import fold_head, task_head
from distill.students.loading import Load, StudentSpec, length_limit, load_student
from distill.students.lora import merge_lora
from distill.students.precision import on_own_base
from distill.students.sharing import ALONE, Shared
from distill.students.similarity import Similarity
from distill.tasks.metrics import indicators, score, score_texts
from distill.tasks.splits import Split

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

MAX_NEW_TOKENS = 512


class TaskModel(Protocol):
    """A student together with its N training rows and its evaluation."""

    pipeline: str  # the pipeline of transformers that loads the export
    spec: StudentSpec
    load: Load  # loads the student as it was before training
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    limit: int  # tokens per row
    tokens: Tokens  # the training rows
    targets: Sequence[Any]  # (N,) what the aligner and the auxiliary heads predict: class ids, floats or C of 0 or 1
    classes: int  # C, the number of targets; 1 for a regression
    first: list[int] | None  # (C,) the answer tokens that the targets of a generative student count; else None
    scale: Scale  # from the scores that a regression learns to its labels
    files: Mapping[str, str]  # what the export has besides the checkpoint, by path
    answers_cut: int  # training rows of a generative student whose answer alone is longer than the limit

    def evaluate(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> dict[str, float]:
        """Return the metrics of the card for the current weights on a split. `what` labels the progress bar.

        All processes of `shared` have to call it. Raise ArmadaError if a prediction is not finite.
        """

    def predictions(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> np.ndarray:
        """Return what `evaluate` scores, in the order of the rows: logits (N, C) float32, or texts (N,)."""


def open_task_model(
    spec: StudentSpec, card: Card, train: Split, settings: TrainSettings, regression: str = "standardised"
) -> TaskModel:
    """Load the student for a card, and tokenise its training rows.

    `regression` is one of REGRESSIONS. Raise ArmadaError if the student does not fit the card.
    """
    if card.type == "generation":
        return _Generator(spec, card, train, settings)
    if card.type == "similarity":
        return Similarity(spec, card, train, settings)
    return _Classifier(spec, card, train, settings, regression)


def finish_task_model(task_model: TaskModel, device: torch.device, *, merge: bool = True) -> None:
    """Turn `task_model.model` into the stock model to export, and move it to `device`.

    Parameters that were trained in addition to the stock weights are folded or merged into them. With `merge` False,
    low-rank layers stay apart, for an adapter.
    """
    fold_head(task_model.model)
    if task_model.spec.is_reduced:
        trained = trained_weights(task_model.model)
        del task_model.model  # frees its memory before the student is loaded in full precision
        whole = replace(task_model.spec, load_4bit=False, base_bf16=False)
        task_model.model = on_own_base(trained, lambda: task_model.load(whole)[0])
    if merge:
        merge_lora(task_model.model)
    if task_model.scale != AS_IS:
        fold_scale(task_head(task_model.model)[1], task_model.scale)
        task_model.scale = AS_IS
    task_model.model.to(device)


def with_length(spec: StudentSpec, card: Card, train: Split, settings: TrainSettings) -> TrainSettings:
    """Return the settings with a limit of tokens per row: the given one, or that of `default_length`.

    Only the tokenizer and the configuration of the student are loaded.
    """
    if settings.max_length is not None:
        return settings
    config = load_config(spec.source)  # first: its error says that there is no student at all
    auto = auto_class(card, config)
    check_architecture(spec.name, config, auto)
    tokenizer = load_tokenizer(spec.source)
    config.pad_token_id = config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if card.type == "generation":
        answers = [label[0] for label in train.labels]
        lengths = tokenize_answers(tokenizer, [text for (text,) in train.texts], answers).tokens.lengths
    elif card.type == "similarity":
        lengths = tokenize_pairs(tokenizer, train.texts).lengths
    else:
        lengths = tokenize(tokenizer, train.texts).lengths
    positions = positions_of(skeleton(config, auto, spec.trust_remote_code), tokenizer)
    return replace(settings, max_length=default_length(lengths, positions))


def auto_class(card: Card, config: PretrainedConfig) -> Any:
    """Return the Auto class of transformers that loads the student of a card."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    if card.type == "similarity":
        return embedding_class(config)
    return AutoModelForCausalLM if card.type == "generation" else AutoModelForSequenceClassification


class _Loaded:
    """What both kinds of task models have in common."""

    files: Mapping[str, str] = MappingProxyType({})

    def __init__(self, spec: StudentSpec, card: Card, load: Load, settings: TrainSettings) -> None:
        self._metrics = card.metrics
        self.spec = spec
        self.load = load
        self.model, self.tokenizer = load(spec)
        self.scale, self.answers_cut = AS_IS, 0
        self.limit = length_limit(self.model, self.tokenizer, settings.max_length)


class _Classifier(_Loaded):
    pipeline = "text-classification"
    first: list[int] | None = None

    def __init__(self, spec: StudentSpec, card: Card, train: Split, settings: TrainSettings, regression: str) -> None:
        several = card.type == "multi-label"
        load = partial(load_student, labels=card.classes, seed=settings.seed, multi_label=several)
        super().__init__(spec, card, load, settings)
        if len(card.text) == 2:
            check_pairs(spec.name, self.tokenizer)
        self.tokens = tokenize(self.tokenizer, train.texts, self.limit)
        self.classes = max(len(card.classes), 1)
        self.targets: Sequence[Any] = train.labels
        if several:
            self.targets = indicators(train.labels, self.classes).tolist()
        if card.type == "regression" and regression == "standardised":
            self._standardise(train)

    def _standardise(self, train: Split) -> None:
        """Learn scores standardised by the training rows; a head that the student has already is changed to them."""
        name, head = task_head(self.model)
        self.scale = scale_of(train.labels, centred=head.bias is not None)
        self.targets = self.scale.standardised(train.labels)
        if f"{name}.weight" not in self.model.loaded_weights.new:
            unfold_scale(head, self.scale)

    def evaluate(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> dict[str, float]:
        return score(self.predictions(split, device, what, shared), split.labels, self._metrics, split.groups)

    def predictions(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> np.ndarray:
        if self.classes == 1:  # an exported head adds the labels' mean, beside which half precision rounds them away
            shared = replace(shared, precision="fp32")
        tokens = tokenize(self.tokenizer, split.texts, self.limit)
        logits = predict(self.model, tokens, device, what=what, shared=shared)
        return logits * self.scale.deviation + self.scale.mean


class _Generator(_Loaded):
    pipeline = "text-generation"

    def __init__(self, spec: StudentSpec, card: Card, train: Split, settings: TrainSettings) -> None:
        super().__init__(spec, card, partial(load_generator, seed=settings.seed), settings)
        answers = [label[0] for label in train.labels]
        tokenized = tokenize_answers(self.tokenizer, [text for (text,) in train.texts], answers, self.limit)
        self.tokens = tokenized.tokens
        self.targets: Sequence[Any] = tokenized.targets
        self.first: list[int] | None = tokenized.first
        self.classes = len(tokenized.first)
        self.answers_cut = tokenized.answers_cut
        self._new_tokens = min(tokenized.longest, MAX_NEW_TOKENS)

    def evaluate(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> dict[str, float]:
        return score_texts(self.predictions(split, device, what, shared).tolist(), split.labels, self._metrics)

    def predictions(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> np.ndarray:
        prompts = [text for (text,) in split.texts]
        limit = length_limit(self.model, self.tokenizer, self.limit + self._new_tokens)
        texts = generate(self.model, self.tokenizer, prompts, self._new_tokens, limit, what=what, shared=shared)
        return np.array(texts, dtype=np.str_)
