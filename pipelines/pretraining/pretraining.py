"""One pre-training: from texts, a student and a cache to a plain checkpoint without a task head, and `run.json`.

`run.json` is written last. The same command again in the same folder reads it and does nothing, or goes on where it
was stopped; another run there is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import Mending, Split, View, changes, data_digest, refuse_another
from pipelines.files import read_json, write_json
from pipelines.pretraining.request import (
    OF_THE_TRAINING,
    PretrainRequest,
    check_pretrain_request,
    mending_of,
    read_texts,
)
from pipelines.run.features import join_rows, specs_of
from pipelines.run.places import check_sources
from pipelines.run.processes import start_processes
from pipelines.run.record import surroundings
from pipelines.run.request import RunRequest
from pipelines.run.student import spec_of
from pipelines.run.teacher_targets import aligner_folder, first_on_main
from teacher_cache import Cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from accelerate import Accelerator

    from distill import MaskedTargets, PretrainTargets, StudentSpec, Tokens

REGRESSION, RELATIONAL = "regression", "relational"


@dataclass(frozen=True)
class PretrainResult:
    """What a finished pre-training says of itself."""

    rows: int
    loss: float  # of the last epoch; for the regression the share of the features' variance that is not learned
    train_seconds: float
    reused: bool  # the run was in its folder already


def run_pretraining(request: PretrainRequest) -> PretrainResult:
    """Pre-train a student and export it to the folder `student`.

    Raise ArmadaError or CoverageError before the first step if something doesn't fit.
    """
    check_pretrain_request(request)
    check_sources(request.run)

    def mending(cache: Cache) -> Mending:
        return mending_of(request, specs_of(request.run, cache), cache)

    return pretrain_rows(request.run, read_texts(request), mending)


def pretrain_rows(
    request: RunRequest, rows: Split, mending: Callable[[Cache], Mending], target: str = REGRESSION
) -> PretrainResult:
    """Pre-train on rows whose labels are all 0. `target` is what the projection of the student is fitted to: REGRESSION
    (the whitened features) or RELATIONAL (the relations of the raw ones, as in studies of before 2026-12)."""
    view, source = join_rows(request, None, rows, mending)
    identity = identity_of(request, view.split, target) | {
        "control": request.control,
        "features": {name: getattr(source, name) for name in ("teacher", "encoder", "dimension")},
        "pictures": {"samples": request.samples, "combine": request.combine} if request.samples > 1 else None,
        "view_digest": view.digest,
    }
    facts = {"coverage": asdict(view.coverage), "features": asdict(source)}

    def targets_of(tokens: Tokens, tokenizer: Any, accelerator: Accelerator) -> PretrainTargets:
        return _targets(request, view, accelerator, target)

    return finished(request.out, identity) or pretrain_on(request, view.split, targets_of, identity, facts)


def pretrain_on(
    request: RunRequest,
    rows: Split,
    targets_of: Callable[[Tokens, Any, Accelerator], PretrainTargets | MaskedTargets],
    identity: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> PretrainResult:
    """Train, export and record. `targets_of` gets the tokens of the rows and the student's tokenizer; `facts` are
    recorded, too."""
    from accelerate.utils import broadcast_object_list

    from distill import (
        CheckpointConfig,
        check_pairs,
        checkpoint_gradients,
        default_length,
        is_sharded,
        length_limit,
        load_student,
        pretrain_student,
        tokenize,
        wait_for_all,
    )

    accelerator, precision = start_processes(request)
    model, tokenizer = load_student(_spec_of(request), ["0", "1"], request.settings.seed)
    if any(len(texts) == 2 for texts in rows.texts):
        check_pairs(request.student, tokenizer)
    if request.gradient_checkpointing:
        checkpoint_gradients(request.student, model)
    settings = request.settings
    if settings.max_length is None:
        positions = length_limit(model, tokenizer, None)
        settings = replace(settings, max_length=default_length(tokenize(tokenizer, rows.texts).lengths, positions))
    tokens = tokenize(tokenizer, rows.texts, length_limit(model, tokenizer, settings.max_length))
    if not is_sharded(accelerator):
        model.to(accelerator.device)
    targets = targets_of(tokens, tokenizer, accelerator)
    epochs = pretrain_student(
        model,
        tokens,
        targets,
        settings,
        data_digest=data_digest(rows),
        checkpoint_config=CheckpointConfig(
            request.out / "checkpoints",
            request.out / "metrics.jsonl",
            request.save_steps,
            request.keep,
            identity=identity,
        ),
        accelerator=accelerator,
    )
    accelerator.free_memory()
    results: list[PretrainResult | None] = [None]
    if accelerator.is_main_process:
        _export(request, model, tokenizer, identity)
        record = {
            "identity": identity,
            "settings": {name: getattr(settings, name) for name in OF_THE_TRAINING},
            "epochs": [{"epoch": one.epoch, "steps": one.steps, "loss": one.loss} for one in epochs],
            "train_seconds": sum(epoch.seconds for epoch in epochs),
            "rows": len(rows),
            "truncated": tokens.truncated,
            **facts,
            "components": targets.projection_width,
            "precision": precision.used,
            "precision_reason": precision.reason,
            "device": str(accelerator.device),
            "ranks": accelerator.num_processes,
        }
        results = [_write(request.out, record)]
    if accelerator.num_processes > 1:
        wait_for_all(accelerator)
        broadcast_object_list(results)
    accelerator.end_training()
    assert results[0] is not None  # the main process has written it
    return results[0]


def _targets(request: RunRequest, view: View, accelerator: Accelerator, target: str) -> PretrainTargets:
    """The features on the device, and their whitening, fitted now or read where an earlier run stored it."""
    from distill import PretrainTargets, on_device, whitening_of

    settings = request.settings
    features = on_device(view.features, accelerator.device)
    table = view.features if features is None else features
    whitening = None
    if target == REGRESSION:
        fit = partial(whitening_of, aligner_folder(request), view, table, settings.components, settings.power)
        whitening = first_on_main(fit, accelerator)
    return PretrainTargets(table, whitening, request.max_local_bytes)


def identity_of(request: RunRequest, rows: Split, target: str) -> dict[str, Any]:
    from distill import student_identity

    spec = _spec_of(request)
    student = {
        "name": request.student,
        **student_identity(spec.name, spec.path, spec.revision, spec.trust_remote_code),
        "layers": request.layers,
        "precision": request.precision if request.precision != "auto" else None,
    }
    return {
        "pretraining": target,
        "student": {name: value for name, value in student.items() if value is not None},
        "settings": changes(request.settings),
        "max_length": request.settings.max_length or "by the texts",
        "train_digest": data_digest(rows),
    }


def finished(out: Path, identity: Mapping[str, Any]) -> PretrainResult | None:
    path = out / "run.json"
    if not path.exists():
        return None
    record = read_json(path, "armada pretrain", identity=dict)
    refuse_another(record["identity"], json.loads(json.dumps(identity)), str(path))
    return replace(_result_of(record), reused=True)


def _write(out: Path, record: Mapping[str, Any]) -> PretrainResult:
    from distill import Checkpoints

    write_json(out / "run.json", {**record, **surroundings()})
    Checkpoints(out / "checkpoints", {}).remove()
    return _result_of(record)


def _result_of(record: Mapping[str, Any]) -> PretrainResult:
    return PretrainResult(record["rows"], record["epochs"][-1]["loss"], record["train_seconds"], False)


def _export(request: RunRequest, model: Any, tokenizer: Any, identity: Mapping[str, Any]) -> None:
    """Write the student without its task head, which was never trained: a task gives it one of its own."""
    from distill import check_finite, export_student, save_without, task_head

    check_finite(model, "the pre-trained student")
    facts = {"pre-trained from": request.student}
    learned = "the words that were hidden from it"
    if "features" in identity:
        facts |= {"pictures": request.control or "real", **identity["features"]}
        learned = "what their pictures show"
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    words = (
        f"# A student pre-trained by armada\n\nIt has read texts and learned {learned}, without labels. "
        f"It has no task head: `armada train --student THIS FOLDER` adds one.\n\n| | |\n|---|---|\n{lines}\n"
    )
    write = partial(save_without, module=task_head(model)[0])
    export_student(model.cpu(), tokenizer, request.out / "student", words, write=write)


def _spec_of(request: RunRequest) -> StudentSpec:
    """The student in full: adapters and frozen weights of a study's settings are those of the training after it."""
    return replace(spec_of(request), lora_rank=None, lora_targets=None, load_4bit=False, base_bf16=False)
