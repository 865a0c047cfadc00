"""One training run, from a task, a student and a cache to a plain checkpoint and `run.json`.

`run.json` is written last. The same run again in the same folder reads it and does nothing; another run there is
refused.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from distill.aligner import AlignerSettings
from distill.cards import Card, load_card
from distill.losses import MANIFOLD_LOSSES
from distill.splits import Splits, load_splits
from distill.trainer import TrainSettings
from distill.view import View, data_digest, join
from pipelines.output import write_json
from teacher_cache import (
    ArmadaError,
    Cache,
    choose,
    encoder_source,
    open_encoder,
    open_features,
    open_teacher,
    teacher_source,
)

UNDISTILLED = "undistilled"


@dataclass(frozen=True)
class RunRequest:
    """What `armada train` was asked for. `control` is None, "undistilled" or one of controls.CONTROLS."""

    task: str
    student: str
    out: Path
    cache: str | None = None
    teacher: str | None = None
    encoder: str | None = None
    control: str | None = None
    data_file: Path | None = None
    drop_missing: bool = False
    settings: TrainSettings = field(default_factory=TrainSettings)
    aligner: AlignerSettings = field(default_factory=AlignerSettings)


@dataclass(frozen=True)
class RunResult:
    """The test metrics of a finished run, and the seconds its student took to train."""

    metrics: dict[str, float]
    validation: dict[str, float]
    train_seconds: float
    reused: bool  # the run was in its folder already


def run_training(request: RunRequest, splits: Splits | None = None) -> RunResult:
    """Train, evaluate and export. `splits` replaces the card's rows (the demo trains on a part of them).

    Raises ArmadaError or CoverageError before the first step where something doesn't fit.
    """
    _check(request)
    card = load_card(request.task)
    splits = splits or load_splits(card, request.data_file)
    view = None if request.control == UNDISTILLED else _view(request, splits)
    identity = _identity(request, card, splits, view)
    finished = _finished(request.out, identity)
    return finished or _run(request, card, splits, view, identity)


def _check(request: RunRequest) -> None:
    settings = request.settings
    if settings.manifold not in MANIFOLD_LOSSES:
        expected = ", ".join(MANIFOLD_LOSSES)
        raise ArmadaError(f"--manifold: expected one of {expected}, found {settings.manifold!r}")
    if not 0 <= settings.alpha <= 1:
        raise ArmadaError(f"--alpha: expected a number from 0 to 1, found {settings.alpha}")
    for name in ("epochs", "batch_size", "lr", "temperature"):
        if getattr(settings, name) <= 0:
            raise ArmadaError(f"--{name.replace('_', '-')}: expected more than 0, found {getattr(settings, name)}")
    if request.control != UNDISTILLED and not request.cache:
        raise ArmadaError("--cache URL is missing; only --control undistilled needs none")


def _view(request: RunRequest, splits: Splits) -> View:
    cache = Cache(str(request.cache))
    teacher = teacher_source(open_teacher(request.teacher)).digest if request.teacher else None
    encoder = encoder_source(open_encoder(request.encoder)).digest if request.encoder else None
    chosen = choose(cache, teacher, encoder)
    names = (request.teacher or chosen[0].facts.get("text"), request.encoder or chosen[1].facts.get("text"))
    prompts = request.data_file or request.task
    return join(
        splits.train,
        cache,
        open_features(cache, *chosen),
        drop_missing=request.drop_missing,
        control=request.control,
        seed=request.settings.seed,
        mend=f"armada cache build {prompts} --teacher '{names[0]}' --encoder '{names[1]}' --cache {cache.store}",
    )


def _identity(request: RunRequest, card: Card, splits: Splits, view: View | None) -> dict[str, Any]:
    """All that decides a run's result, but for software and hardware."""
    return {
        "task": card.name,
        "student": request.student,
        "control": request.control,
        "settings": asdict(request.settings),
        "aligner": asdict(request.aligner) if view else None,
        "train_digest": data_digest(view.split if view else splits.train),
        "test_digest": data_digest(splits.test),
        "view_digest": view.digest if view else None,
    }


def _finished(out: Path, identity: dict[str, Any]) -> RunResult | None:
    path = out / "run.json"
    if not path.exists():
        return None
    run = json.loads(path.read_text("utf-8"))
    for name, value in identity.items():
        found = run["identity"].get(name)
        if found != value:
            raise ArmadaError(
                f"{path}: a finished run with another {name} is here: expected {value!r}, found {found!r}; "
                "choose another --out or remove the folder"
            )
    return RunResult(run["metrics"]["test"], run["metrics"]["validation"], run["train_seconds"], True)


def _run(request: RunRequest, card: Card, splits: Splits, view: View | None, identity: dict[str, Any]) -> RunResult:
    import torch
    from accelerate import Accelerator

    from distill.aligner_store import aligner_states
    from distill.evaluation import predict, score
    from distill.export import export_student, model_card
    from distill.students import load_student, tokenize
    from distill.trainer import Teaching, train_student

    accelerator = Accelerator(mixed_precision="bf16" if _has_bf16() else "no")
    settings = request.settings
    train = view.split if view else splits.train
    model, tokenizer = load_student(request.student, card.labels, settings.seed)
    max_length = min(settings.max_length, tokenizer.model_max_length, model.config.max_position_embeddings)
    tokens = tokenize(tokenizer, train.texts, max_length)
    teaching = None
    aligner_settings = replace(request.aligner, gamma=settings.gamma)
    if view:
        folder = Cache(str(request.cache)).machine_folder / "aligners"
        states = aligner_states(
            folder, view, len(card.labels), settings.epochs, aligner_settings, settings.seed, accelerator.device
        )
        features = torch.from_numpy(view.features).to(accelerator.device)
        teaching = Teaching(features, states, aligner_settings.width)
    added = _added_parameters(model, teaching)
    epochs = train_student(
        model,
        tokens,
        train.labels,
        settings,
        data_digest=data_digest(train),
        teaching=teaching,
        checkpoint=request.out / "checkpoint.pt",
        accelerator=accelerator,
    )
    accelerator.free_memory()
    model = model.to(accelerator.device)
    metrics = {}
    for name, split in (("validation", splits.validation), ("test", splits.test)):
        if len(split):
            logits = predict(model, tokenize(tokenizer, split.texts, max_length), accelerator.device, what=name)
            metrics[name] = score(logits, split.labels, card.metrics)
    seconds = sum(epoch.seconds for epoch in epochs)
    run = {
        "identity": identity,
        "metrics": {"test": metrics.get("test", {}), "validation": metrics.get("validation", {})},
        "train_seconds": seconds,
        "epochs": [asdict(epoch) for epoch in epochs],
        "rows": {"train": len(train), "validation": len(splits.validation), "test": len(splits.test)},
        "held_out": splits.held_out,
        "truncated": tokens.truncated,
        "coverage": asdict(view.coverage) if view else None,
        "parameters": added,
        "precision": accelerator.mixed_precision,
        "versions": {name: version(name) for name in ("torch", "transformers", "accelerate", "numpy", "pyarrow")},
        "machine": {"device": str(accelerator.device), "cpu": platform.processor() or platform.machine()},
    }
    facts = {
        "task": card.name,
        "student": request.student,
        "arm": request.control or settings.manifold,
        "seed": str(settings.seed),
        **{f"test {name}": f"{value:.4f}" for name, value in metrics.get("test", {}).items()},
        "parameters added at inference": "0",
    }
    export_student(model, tokenizer, request.out / "student", model_card(facts))
    write_json(request.out / "run.json", run)
    (request.out / "checkpoint.pt").unlink(missing_ok=True)
    return RunResult(run["metrics"]["test"], run["metrics"]["validation"], seconds, False)


def _added_parameters(model: Any, teaching: Any) -> dict[str, int]:
    student = sum(parameter.numel() for parameter in model.parameters())
    if not teaching:
        return {"student": student, "added_to_student": 0, "aligner": 0, "added_at_inference": 0}
    features, labels = teaching.features.shape[1], model.config.num_labels
    heads = model.config.hidden_size * features + labels * (features + 1)
    aligner = sum(tensor.numel() for tensor in teaching.states[0].values())
    return {"student": student, "added_to_student": heads, "aligner": aligner, "added_at_inference": 0}


def _has_bf16() -> bool:
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
