"""The control of pre-training on pictures: masked language modelling on the same texts, in as many steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.pretraining.pretraining import PretrainResult, finished, identity_of, pretrain_on
from pipelines.run.request import RunRequest

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distill import MaskedTargets, Split, Tokens

MASKED = "masked"


def pretrain_masked(request: RunRequest, rows: Split) -> PretrainResult:
    """Pre-train on rows whose labels are all 0 by masked language modelling, without pictures: the control of
    `pretrain_rows`. The loss is that of a hidden word, in nats. Raises ArmadaError for a student without a mask token.
    """
    from distill import MaskedTargets, words_of

    def targets_of(tokens: Tokens, tokenizer: Any, accelerator: Accelerator) -> MaskedTargets:
        words, mask = words_of(tokenizer, tokens.columns["input_ids"], request.student)
        return MaskedTargets(len(tokens), tuple(words), mask)

    identity = identity_of(request, rows, MASKED)
    return finished(request.out, identity) or pretrain_on(request, rows, targets_of, identity, {})
