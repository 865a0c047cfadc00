"""A student at its work: what a card's type decides of loading, teaching targets and evaluation.

Classification, regression and choice cards have a classifier; generation cards a causal language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch

from distill.dataset.tokens import Tokens, tokenize
from distill.settings import TrainSettings
from distill.students.evaluation import predict
from distill.students.generation import generate, load_generator, tokenize_answers
from distill.students.heads import fold_head
from distill.students.loading import StudentSpec, length_limit, load_student, trained_weights
from distill.students.lora import merge_lora
from distill.students.precision import on_own_base
from distill.tasks.cards import Card
from distill.tasks.metrics import score, score_texts
from distill.tasks.splits import Split

MAX_NEW_TOKENS = 256
Load: TypeAlias = Callable[[StudentSpec], tuple[Any, Any]]  # the model and tokenizer, as at the start


class TaskModel(Protocol):
    """`targets` (N,) are what aligner and auxiliary heads predict, among `classes` (1: a number). `first` are the first
    tokens that a generative student's targets are places among; None for a classifier."""

    pipeline: str  # of transformers, that loads the export
    spec: StudentSpec
    load: Load
    model: Any
    tokenizer: Any
    tokens: Tokens
    targets: Sequence[float]
    classes: int
    first: list[int] | None

    def evaluate(self, split: Split, device: torch.device, what: str) -> dict[str, float]:
        """The card's metrics of the student as it is now, on a split."""


def open_task_model(spec: StudentSpec, card: Card, train: Split, settings: TrainSettings) -> TaskModel:
    """The student of a card, and its training rows tokenised. Raises ArmadaError."""
    return (_Generating if card.type == "generation" else _Classifying)(spec, card, train, settings)


def finish_task_model(task_model: TaskModel, device: torch.device) -> None:
    """Turn `task_model.model` into the stock model that is exported: fold and merge all that was trained beside its
    weights, and move it to `device`."""
    fold_head(task_model.model)
    if task_model.spec.load_4bit:
        trained = trained_weights(task_model.model)
        task_model.model = None  # leaves its memory to the whole student
        task_model.model = on_own_base(trained, lambda: task_model.load(replace(task_model.spec, load_4bit=False))[0])
    merge_lora(task_model.model)
    task_model.model.to(device)


class _Classifying:
    pipeline = "text-classification"
    first: list[int] | None = None

    def __init__(self, spec: StudentSpec, card: Card, train: Split, settings: TrainSettings) -> None:
        self._metrics = card.metrics
        self.spec = spec
        self.load: Load = partial(load_student, labels=card.classes, seed=settings.seed)
        self.model, self.tokenizer = self.load(spec)
        self._limit = length_limit(self.model, self.tokenizer, settings.max_length)
        self.tokens = tokenize(self.tokenizer, train.texts, self._limit)
        self.targets: Sequence[float] = train.labels
        self.classes = max(len(card.classes), 1)

    def evaluate(self, split: Split, device: torch.device, what: str) -> dict[str, float]:
        tokens = tokenize(self.tokenizer, split.texts, self._limit)
        return score(predict(self.model, tokens, device, what=what), split.labels, self._metrics, split.groups)


class _Generating:
    pipeline = "text-generation"

    def __init__(self, spec: StudentSpec, card: Card, train: Split, settings: TrainSettings) -> None:
        self._metrics = card.metrics
        self.spec = spec
        self.load: Load = partial(load_generator, seed=settings.seed)
        self.model, self.tokenizer = self.load(spec)
        self._limit = length_limit(self.model, self.tokenizer, settings.max_length)
        answers = [label[0] for label in train.labels]
        taught = tokenize_answers(self.tokenizer, [text for (text,) in train.texts], answers, self._limit)
        self.tokens = taught.tokens
        self.targets: Sequence[float] = taught.targets
        self.first: list[int] | None = taught.first
        self.classes = len(taught.first)
        self._new_tokens = min(taught.longest, MAX_NEW_TOKENS)

    def evaluate(self, split: Split, device: torch.device, what: str) -> dict[str, float]:
        prompts = [text for (text,) in split.texts]
        limit = self._limit + self._new_tokens
        texts = generate(self.model, self.tokenizer, prompts, self._new_tokens, limit, what=what)
        return score_texts(texts, split.labels, self._metrics)
