"""What decides a run: its settings, completed from the card and the training rows, and the identity made of them."""

from __future__ import annotations

from typing import Any

from distill import Card, Splits, View, card_digest, changes, data_digest
from pipelines.run.features import FeatureSource
from pipelines.run.request import RunRequest
from pipelines.run.student import spec_of


def identity_of(
    request: RunRequest, card: Card, splits: Splits, view: View | None, source: FeatureSource | None
) -> dict[str, Any]:
    """Everything that decides a run's result, except for software and hardware. Settings are those that differ from the
    baseline, so that a setting added later changes no run's identity; so are the options of the student. A student is
    its content, or its commit on the hub."""
    from distill import pair_separator, student_identity

    spec = spec_of(request)
    student = {
        "name": request.student,
        **student_identity(spec.name, spec.path, spec.revision, spec.trust_remote_code),
        "layers": request.layers,
        "lora_rank": request.lora_rank,
        "lora_alpha": request.lora_alpha,
        "lora_dropout": request.lora_dropout or None,
        "lora_export": request.lora_export if request.lora_export != "merged" else None,
        "lora_targets": list(request.lora_targets) if request.lora_targets else None,
        "load_4bit": request.load_4bit or None,
        "base_precision": request.base_precision if request.base_precision != "fp32" else None,
        "precision": request.precision if request.precision != "auto" else None,
        # Before 2026-12, the two texts of a pair were joined where a tokenizer has no template for pairs.
        "pair_separator": pair_separator(spec.source) if len(card.text) == 2 and card.type != "similarity" else None,
        # Before 2026-12, scores of a regression had another scale.
        "regression": request.regression if card.is_scored else None,
    }
    return {
        "task": card.name,
        **({"card": card_digest(card)} if card.home is not None else {}),  # what a card of the user says
        "student": {name: value for name, value in student.items() if value is not None},
        "control": request.control,
        "settings": changes(request.settings),
        "aligner": changes(request.aligner) if view else None,
        "features": {name: getattr(source, name) for name in ("teacher", "encoder", "dimension")} if source else None,
        "pictures": {"samples": request.samples, "combine": request.combine} if request.samples > 1 else None,
        "train_digest": data_digest(view.split if view else splits.train),
        "validation_digest": data_digest(splits.validation),
        "test_digest": data_digest(splits.test),
        "view_digest": view.digest if view else None,
    }
