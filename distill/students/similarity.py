"""The task model of sentence similarity: an embedding student that learns the scores of pairs as cosines.

The loss is the mean squared error between the cosine of the two embeddings and the score, scaled to cosines by the
training rows: CosineSimilarityLoss of sentence-transformers (Reimers and Gurevych, arXiv 1908.10084, section 3). The
export is a folder that sentence-transformers loads. Its vectors have unit length, because only cosines are trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from distill.cards.cards import Card
from distill.objective.score_scale import AS_IS
from distill.settings import TrainSettings
from distill.students.embedding import Cosines, cosine_scale, embed, embedding_class, tokenize_pairs
from distill.students.evaluation import predict
from distill.students.files.student_files import load_config
from distill.students.loading import Load, StudentSpec, length_limit, load_stock
from distill.students.lora import add_lora
from distill.students.sharing import ALONE, Shared
from distill.tasks.metrics import score
from distill.tasks.splits import Split
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

POOLER = "pooler"  # of encoders; the mean of the states does not pass through it


def load_embedder(spec: StudentSpec, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model without a task head (float32) and its tokenizer; `embedding_width` is H.

    Raise ArmadaError as `load_stock` does, or if the model gives no state for each token.
    """
    model, tokenizer = load_stock(spec, embedding_class(load_config(spec.source)), seed, {}, _pooler)
    tokenizer.padding_side = "right"  # as in training; absolute positions depend on it
    if spec.lora_rank:
        torch.manual_seed(seed)
        add_lora(model, spec.lora_rank, spec.lora_targets, _pooler(model), spec.lora_alpha, spec.lora_dropout)
    for name in _pooler(model):
        model.get_submodule(name).requires_grad_(False)
    model.embedding_width = _width(spec.name, model, tokenizer)
    return model, tokenizer


def _pooler(model: PreTrainedModel) -> tuple[str, ...]:
    return (POOLER,) if getattr(model, POOLER, None) is not None else ()


@torch.no_grad()
def _width(name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    try:
        return int(embed(model.eval(), tokenizer(["a"], return_tensors="pt")).shape[1])
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise ArmadaError(f"{name}: expected a model that gives a state for each token of a text: {error}") from None


class Similarity:
    """The task model of a similarity card; see TaskModel."""

    pipeline = "sentence-similarity"
    first: list[int] | None = None
    classes = 1
    answers_cut = 0

    def __init__(self, spec: StudentSpec, card: Card, train: Split, settings: TrainSettings) -> None:
        self._metrics = card.metrics
        self.spec = spec
        self.load: Load = partial(load_embedder, seed=settings.seed)
        self.model, self.tokenizer = self.load(spec)
        self.limit = length_limit(self.model, self.tokenizer, settings.max_length)
        self.tokens = tokenize_pairs(self.tokenizer, train.texts, self.limit)
        self.targets: Sequence[float] = cosine_scale(train.labels).standardised(train.labels)
        self.scale = AS_IS  # the export gives cosines
        self.files: Mapping[str, str] = sentence_files(self.model.embedding_width, self.limit)

    def evaluate(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> dict[str, float]:
        """Return the correlations of the cosines with the scores of a split."""
        return score(self.predictions(split, device, what, shared), split.labels, self._metrics)

    def predictions(self, split: Split, device: torch.device, what: str, shared: Shared = ALONE) -> np.ndarray:
        """Return the cosines (N, 1) of a split's pairs."""
        tokens = tokenize_pairs(self.tokenizer, split.texts, self.limit)
        return predict(Cosines(self.model), tokens, device, what=what, shared=shared)


def sentence_files(width: int, limit: int) -> dict[str, str]:
    """Return the files that make a checkpoint a model of sentence-transformers, by path; an empty folder ends in "/".

    Its embedding is the mean of the states, (width,), of at most `limit` tokens, scaled to unit length.
    """
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    contents = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": limit, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True},
    }
    return {**{name: json.dumps(value, indent=2) + "\n" for name, value in contents.items()}, "2_Normalize/": ""}
