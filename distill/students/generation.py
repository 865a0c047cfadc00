"""Generative students: a causal language model trained to continue a prompt with an answer.

The task loss is the language-model loss on the tokens of the answer. The pooled output s is the state at the last token
of the prompt, which does not depend on the answer. The aligner and the auxiliary head predict the first token of the
answer among the first tokens seen in training; tokens that all answers start with (for some tokenizers, a space) count
as part of the prompt for this. This is an extension: the public code of the reference has no generative students.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill.dataset.tokens import Tokens
from distill.students.files.architectures import check_decoder, no_cache
from distill.students.files.student_files import load_config
from distill.students.loading import StudentSpec, load_stock
from distill.students.lora import add_lora
from distill.students.pooling import ModelInputs
from distill.students.sharing import ALONE, Shared
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NO_LABEL = -100  # the label of prompt and padding tokens, as in transformers


@dataclass(frozen=True)
class AnswerTokens:
    """Tokenised prompts with their answers."""

    tokens: Tokens  # the column `pooled` is 1 at the token whose state is s
    first: list[int]  # (C,) the distinct first tokens of answers, sorted
    targets: list[int]  # (N,) the place of each row's first answer token in `first`
    longest: int  # the number of tokens of the longest answer
    answers_cut: int  # rows whose answer alone is longer than the limit


def load_generator(spec: StudentSpec, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the causal language model (float32) and its tokenizer.

    Raise ArmadaError for an encoder, and as `load_stock` does.
    """
    from transformers import AutoModelForCausalLM

    check_decoder(spec.name, load_config(spec.source))
    model, tokenizer = load_stock(spec, AutoModelForCausalLM, seed, {})
    if spec.lora_rank:
        torch.manual_seed(seed)
        add_lora(model, spec.lora_rank, spec.lora_targets, (), spec.lora_alpha, spec.lora_dropout)
    return model, tokenizer


def tokenize_answers(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], answers: Sequence[str], max_length: int | None = None
) -> AnswerTokens:
    """Tokenise prompt, answer and end token of each row.

    A row longer than `max_length` tokens loses the start of its prompt, though not the start token; an answer that is
    too long by itself loses its end. Both count as truncated. `max_length` None cuts nothing. Raise ArmadaError if all
    answers are the same.
    """
    starts = tokenizer(list(prompts), verbose=False)["input_ids"]
    # A space separates prompt and answer, as in running text; the answer gets no start token.
    pairs = zip(prompts, answers, strict=True)
    spaced = [answer if prompt[-1:].isspace() else f" {answer}" for prompt, answer in pairs]
    ends = tokenizer(spaced, add_special_tokens=False, verbose=False)["input_ids"]
    columns: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": [], "pooled": []}
    start_token = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if max_length is None:
        max_length = max(len(start) + len(end) for start, end in zip(starts, ends, strict=True)) + 2
    answers_of = [[*end, tokenizer.eos_token_id][: max_length - 1] for end in ends]
    common = min(_common_prefix(answers_of), min(map(len, answers_of)) - 1)
    truncated = 0
    for start, end, answer in zip(starts, ends, answers_of, strict=True):
        prompt = _end_of(start, max_length - len(answer), tokenizer.bos_token_id) or [start_token]
        truncated += len(answer) + len(prompt) < len(start) + len(end) + 1
        columns["input_ids"].append(prompt + answer)
        columns["attention_mask"].append([1] * (len(prompt) + len(answer)))
        columns["labels"].append([NO_LABEL] * len(prompt) + answer)
        columns["pooled"].append([int(place == len(prompt) - 1 + common) for place in range(len(prompt) + len(answer))])
    first = sorted({answer[common] for answer in answers_of})
    if len(first) < 2:
        raise ArmadaError(f"expected answers that differ in a token, found {len(answers)} of {answers[0]!r}")
    place = {token: number for number, token in enumerate(first)}
    pad = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "labels": NO_LABEL, "pooled": 0}
    targets = [place[answer[common]] for answer in answers_of]
    cut = sum(len(end) + 1 > len(answer) for end, answer in zip(ends, answers_of, strict=True))
    return AnswerTokens(Tokens(columns, pad, truncated), first, targets, max(map(len, answers_of)), cut)


def _end_of(prompt: list[int], room: int, start_token: int | None) -> list[int]:
    """Return the last `room` tokens of a prompt, the first of which stays the start token if the prompt has one."""
    if len(prompt) <= room:
        return prompt
    if prompt[0] == start_token and room > 1:
        return [prompt[0], *prompt[-(room - 1) :]]
    return prompt[-room:]


def _common_prefix(answers: Sequence[list[int]]) -> int:
    """Return how many tokens all answers start with: for some tokenizers, the space before a number is a token."""
    count = 0
    for tokens in zip(*answers, strict=False):
        if len(set(tokens)) > 1:
            break
        count += 1
    return count


def answer_loss(
    model: PreTrainedModel, batch: ModelInputs, first: Tensor, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return s (B, H), the logits (B, C) of the tokens `first`, and the summed loss and answer length per row (B, 2).

    Logits over the vocabulary are computed only where an answer token is predicted, and at s. The model's own forward
    pass computes them, because some models scale or cap them. Finding these places synchronises with the GPU once per
    step.
    """
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels = batch["labels"][:, 1:]  # the state one place earlier predicts the label
    is_answer = labels != NO_LABEL
    pooled: list[Tensor] = []

    def pick(_: nn.Module, entering: tuple[Tensor, ...]) -> tuple[Tensor]:
        states = entering[0]  # (B, T, H)
        pooled.append(states[torch.arange(len(states), device=states.device), batch["pooled"].argmax(1)])
        return (torch.cat([states[:, :-1][is_answer], pooled[0]])[None],)  # (1, A + B, H) with A answer tokens

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        logits = model(**inputs, **no_cache(type(model).forward)).logits[0].float()  # (A + B, V)
    finally:
        hook.remove()
    answers = logits[: -len(labels)]
    losses = F.cross_entropy(answers, labels[is_answer], reduction="none", label_smoothing=label_smoothing)
    rows = is_answer.nonzero()[:, 0]
    sums = losses.new_zeros(len(labels)).index_add(0, rows, losses)
    return pooled[0], logits[-len(labels) :, first], torch.stack([sums, is_answer.sum(1).to(sums.dtype)], 1)


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    max_length: int,
    batch_size: int = 16,
    what: str = "generate",
    shared: Shared = ALONE,
) -> list[str]:
    """Return the text that the student generates after each prompt, by greedy decoding until its end token.

    A prompt that leaves no room for `max_new_tokens` in `max_length` tokens loses its start. `what` labels the progress
    bar.
    """
    was_training, sides = model.training, (tokenizer.padding_side, tokenizer.truncation_side)
    model.eval()
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
    texts = [""] * len(prompts)
    batches = shared.batches(order, batch_size)
    found = []
    with shared.bar(batches, what) as bar, shared.autocast(model.device):
        for rows in batches:
            batch = tokenizer(
                [prompts[row] for row in rows],
                padding=True,
                truncation=True,
                max_length=max(max_length - max_new_tokens, 1),
                return_tensors="pt",
            ).to(model.device)
            inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
            generated = model.generate(
                **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
            answers = tokenizer.batch_decode(generated[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
            found += [(int(row), answer.strip()) for row, answer in zip(rows, answers, strict=True)]
            bar.update(len(rows))
    for part in shared.gather(found):
        for row, answer in part:
            texts[row] = answer
    tokenizer.padding_side, tokenizer.truncation_side = sides
    model.train(was_training)
    return texts
