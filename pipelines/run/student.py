"""The student of a run: what its request says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.run.request import RunRequest

if TYPE_CHECKING:
    from distill import StudentSpec


def spec_of(request: RunRequest) -> StudentSpec:
    """The student that a request names, with its layers, its adapters and the number format of its frozen weights."""
    from distill import StudentSpec

    return StudentSpec(
        request.student,
        layers=request.layers,
        lora_rank=request.lora_rank,
        lora_targets=request.lora_targets,
        load_4bit=request.load_4bit,
        base_bf16=request.base_precision == "bf16",
        revision=request.student_revision,
        trust_remote_code=request.trust_remote_code,
        lora_alpha=request.lora_alpha,
        lora_dropout=request.lora_dropout,
    )
