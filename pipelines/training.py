"""One training run, from a task, a student and a cache to a plain checkpoint and `run.json`.

`run.json` is written last. The same run again in the same folder reads it and does nothing, or goes on where it was
stopped; another run there is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from distill.cards import Card, load_card
from distill.controls import UNDISTILLED, controlled_settings, find_control
from distill.losses import MANIFOLD_LOSSES
from distill.settings import AlignerSettings, TrainSettings
from distill.splits import Splits, load_splits
from distill.view import View, data_digest, join
from pipelines.run_record import RunResult, finished, write_record
from teacher_cache import (
    ArmadaError,
    Cache,
    canonical_json,
    choose,
    encoder_source,
    open_encoder,
    open_features,
    open_teacher,
    sha256,
    teacher_source,
)


@dataclass(frozen=True)
class RunRequest:
    """What `armada train` was asked for. `control` is None or one of controls.NAMES."""

    task: str
    student: str
    out: Path
    cache: str | None = None
    teacher: str | None = None
    encoder: str | None = None
    control: str | None = None
    data_file: Path | None = None
    drop_missing: bool = False
    layers: int | None = None
    lora_rank: int | None = None
    lora_targets: tuple[str, ...] | None = None
    settings: TrainSettings = field(default_factory=TrainSettings)
    aligner: AlignerSettings = field(default_factory=AlignerSettings)
    save_steps: int = 500
    keep: int = 2
    trackers: tuple[str, ...] = ()  # of accelerate, for example tensorboard


@dataclass(frozen=True)
class _Source:
    """Where the features come from: `digest` names all the shards that they were read from."""

    teacher: str
    encoder: str
    dimension: int
    digest: str


def run_training(request: RunRequest, splits: Splits | None = None) -> RunResult:
    """Train, evaluate and export. `splits` replaces the card's rows (the demo trains on a part of them).

    Raises ArmadaError or CoverageError before the first step where something doesn't fit.
    """
    _check(request)
    request = replace(request, settings=controlled_settings(request.control, request.settings))
    card = load_card(request.task)
    splits = splits or load_splits(card, request.data_file)
    view, source = (None, None) if request.control == UNDISTILLED else _view(request, card, splits)
    identity = _identity(request, card, splits, view, source)
    return finished(request.out, identity) or _run(request, card, splits, view, source, identity)


def features_view(request: RunRequest, card: Card, splits: Splits) -> View:
    """The training rows beside their features after the control. Raises CoverageError."""
    return _view(request, card, splits)[0]


def _check(request: RunRequest) -> None:
    find_control(request.control)
    settings = request.settings
    choices = {
        "manifold": MANIFOLD_LOSSES,
        "schedule": ("linear", "constant"),
        "select": ("last", "validation", "test"),
    }
    for name, expected in choices.items():
        if getattr(settings, name) not in expected:
            raise ArmadaError(f"--{name}: expected one of {', '.join(expected)}, found {getattr(settings, name)!r}")
    if not 0 <= settings.alpha <= 1:
        raise ArmadaError(f"--alpha: expected a number from 0 to 1, found {settings.alpha}")
    for name in ("epochs", "batch_size", "accumulate", "lr", "temperature"):
        if getattr(settings, name) <= 0:
            raise ArmadaError(f"--{name.replace('_', '-')}: expected more than 0, found {getattr(settings, name)}")
    if request.control != UNDISTILLED and not request.cache:
        raise ArmadaError("--cache URL is missing; only --control undistilled needs none")


def _view(request: RunRequest, card: Card, splits: Splits) -> tuple[View, _Source]:
    cache = Cache(str(request.cache))
    teacher = teacher_source(open_teacher(request.teacher)).digest if request.teacher else None
    control = find_control(request.control)
    if control and control.encoder and not (request.encoder or "").startswith(control.encoder.partition(":")[0]):
        request = replace(request, encoder=control.encoder)
    encoder = encoder_source(open_encoder(request.encoder)).digest if request.encoder else None
    chosen = choose(cache, teacher, encoder)
    names = (request.teacher or chosen[0].facts.get("text"), request.encoder or chosen[1].facts.get("text"))
    words = f"--teacher '{names[0]}' --encoder '{names[1]}' --cache {cache.store}"
    view = join(
        splits.train,
        cache,
        open_features(cache, *chosen),
        drop_missing=request.drop_missing,
        control=request.control,
        seed=request.settings.seed,
        mend=f"{_prompts_first(request, card)} {words}",
    )
    shards = sorted(shard.sha256 for shard in cache.shards(f"features/{chosen[0].name}/{chosen[1].name}/"))
    digest = sha256(canonical_json(shards))
    return view, _Source(chosen[0].name, chosen[1].name, view.features.shape[1], digest)


def _prompts_first(request: RunRequest, card: Card) -> str:
    """The start of the command that builds what is missing; a user's rows become prompts by the card's template."""
    file = request.data_file
    if file is None:
        return f"armada cache build {card.name}"
    if card.prompt == "{text}" and file.is_file():
        return f"armada cache build {file}"
    return f"armada tasks {card.name} --data-files {file} --prompts prompts.jsonl && armada cache build prompts.jsonl"


def _identity(
    request: RunRequest, card: Card, splits: Splits, view: View | None, source: _Source | None
) -> dict[str, Any]:
    """All that decides a run's result, but for software and hardware."""
    return {
        "task": card.name,
        "student": {
            "name": request.student,
            "layers": request.layers,
            "lora_rank": request.lora_rank,
            "lora_targets": list(request.lora_targets) if request.lora_targets else None,
        },
        "control": request.control,
        "settings": asdict(request.settings),
        "aligner": asdict(request.aligner) if view else None,
        "features": {name: getattr(source, name) for name in ("teacher", "encoder", "dimension")} if source else None,
        "train_digest": data_digest(view.split if view else splits.train),
        "test_digest": data_digest(splits.test),
        "view_digest": view.digest if view else None,
    }


def _run(
    request: RunRequest,
    card: Card,
    splits: Splits,
    view: View | None,
    source: _Source | None,
    identity: Mapping[str, Any],
) -> RunResult:
    from accelerate.utils import broadcast_object_list

    from distill.checkpoints import Checkpoints
    from distill.export import export_student, model_card
    from distill.lora import merge_lora
    from distill.selection import BestEpoch
    from distill.students import StudentSpec
    from distill.trainer import Keeping, train_student
    from distill.wide_head import fold_head, widen_head
    from distill.work import open_work

    settings = request.settings
    accelerator = _accelerator(request)
    train = view.split if view else splits.train
    spec = StudentSpec(request.student, request.layers, request.lora_rank, request.lora_targets)
    work = open_work(spec, card, train, settings)
    model = work.model
    control = find_control(request.control)
    if view and control and control.wide_head:
        widen_head(model, view.features.shape[1], settings.dropout, settings.seed)
    is_taught = view is not None and not (control and control.aligner == "none")
    teaching = _teaching(request, work, view, accelerator) if view and is_taught else None
    parameters = _parameters(model, teaching)

    checkpoints = request.out / "checkpoints"
    best = BestEpoch(checkpoints, sha256(canonical_json(identity)))
    selecting = getattr(splits, settings.select) if settings.select != "last" else None

    def offer(epoch: Any) -> None:
        if selecting and accelerator.is_main_process:
            found = work.evaluate(selecting, accelerator.device, settings.select)
            best.offer(model, epoch.epoch, found[card.metrics[0]])

    epochs = train_student(
        model,
        work.tokens,
        work.targets,
        settings,
        data_digest=data_digest(train),
        teaching=teaching,
        keeping=Keeping(
            checkpoints, request.out / "metrics.jsonl", request.save_steps, request.keep, identity=identity
        ),
        accelerator=accelerator,
        first=work.first,
        on_epoch=offer,
    )
    accelerator.free_memory()
    results: list[RunResult | None] = [None]
    if accelerator.is_main_process:
        model = model.to(accelerator.device)
        if selecting:
            best.load(model)
        merge_lora(model)
        fold_head(model)
        named = {"validation": splits.validation, "test": splits.test, **splits.also}
        metrics = {
            name: work.evaluate(split, accelerator.device, name) if len(split) else {} for name, split in named.items()
        }
        record = {
            "identity": identity,
            "metrics": metrics,
            "selected": {"by": settings.select, "epoch": (best.kept() or (len(epochs) - 1,))[0]},
            "train_seconds": sum(epoch.seconds for epoch in epochs),
            "epochs": [asdict(epoch) for epoch in epochs],
            "rows": {"train": len(train), "validation": len(splits.validation), "test": len(splits.test)},
            "held_out": splits.held_out,
            "dropped": splits.dropped,
            "truncated": work.tokens.truncated,
            "coverage": asdict(view.coverage) if view else None,
            "features": asdict(source) if source else None,
            "parameters": parameters,
            "precision": accelerator.mixed_precision,
            "device": str(accelerator.device),
            "ranks": accelerator.num_processes,
        }
        words = model_card(_facts(request, card, metrics, parameters), work.pipeline)
        export_student(model, work.tokenizer, request.out / "student", words)
        results = [write_record(request.out, record)]
        best.remove()
        Checkpoints(checkpoints, {}).remove()
    if accelerator.num_processes > 1:
        broadcast_object_list(results)
    accelerator.end_training()
    assert results[0] is not None  # the main process has written it
    return results[0]


def _accelerator(request: RunRequest) -> Any:
    """The device, the precision and the processes. Raises ArmadaError where a launcher's processes don't find each
    other: each would train by itself and overwrite the others' results."""
    import torch
    from accelerate import Accelerator

    accelerator = Accelerator(
        cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),  # else ranks on the CPU go unseen
        mixed_precision="bf16" if _has_bf16() else "no",
        log_with=list(request.trackers) or None,
        project_dir=request.out,
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise ArmadaError(
            f"expected {started} processes, as the launcher says, found {accelerator.num_processes}; "
            "start them by: python -m torch.distributed.run --nproc_per_node N -m pipelines.cli train ..."
        )
    if request.trackers:
        accelerator.init_trackers("trackers")
    return accelerator


def _teaching(request: RunRequest, work: Any, view: View, accelerator: Any) -> Any:
    import torch

    from distill.aligner import untrained_states
    from distill.aligner_store import aligner_states
    from distill.lesson import Teaching

    settings = replace(request.aligner, gamma=request.settings.gamma)
    features = torch.from_numpy(view.features).to(accelerator.device)
    control = find_control(request.control)
    if control and control.aligner == "untrained":
        epochs, seed = request.settings.epochs, request.settings.seed
        states = untrained_states(features.shape[1], work.classes, epochs, settings, seed)
        return Teaching(features, states, settings.width)
    folder = Cache(str(request.cache)).machine_folder / "aligners"
    with accelerator.main_process_first():  # the others read what it has trained
        states = aligner_states(
            folder,
            view,
            work.classes,
            request.settings.epochs,
            settings,
            request.settings.seed,
            accelerator.device,
            targets=work.targets if work.first else None,
        )
    return Teaching(features, states, settings.width)


def _facts(
    request: RunRequest, card: Card, metrics: Mapping[str, Mapping[str, float]], parameters: Mapping[str, int]
) -> dict[str, str]:
    """The model card's table."""
    settings = request.settings
    return {
        "task": card.name,
        "student": request.student,
        "arm": request.control or settings.manifold,
        "seed": str(settings.seed),
        "epoch picked by": {"last": "no split: the last one", "test": "the reported split, as the paper does"}.get(
            settings.select, settings.select
        ),
        **{f"test {name}": f"{value:.4f}" for name, value in metrics["test"].items()},
        "parameters": f"{parameters['student']:,}",
        "parameters added while training": f"{parameters['added_to_student']:,}",
        "parameters of the aligner": f"{parameters['aligner']:,}",
        "parameters added at inference": "0",
    }


def _parameters(model: Any, teaching: Any) -> dict[str, int]:
    from distill.trainer import pooled_width

    counts = {
        "student": sum(parameter.numel() for parameter in model.parameters()),
        "trained": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }
    if not teaching:
        return {**counts, "added_to_student": 0, "aligner": 0, "added_at_inference": 0}
    features, labels = teaching.features.shape[1], len(teaching.states[0]["head.bias"])
    heads = pooled_width(model) * features + labels * (features + 1)
    aligner = sum(tensor.numel() for tensor in teaching.states[0].values())
    return {**counts, "added_to_student": heads, "aligner": aligner, "added_at_inference": 0}


def _has_bf16() -> bool:
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
