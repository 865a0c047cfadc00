"""The check of a request as a whole, before anything loads: bounds, contradictions between options, places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.run.request import RunRequest

PACKAGED = ("minilm", "smollm2")  # students of installed packages


def check_request(request: RunRequest, *, pretrains: bool = False) -> None:
    """Raise ArmadaError for a value out of bounds, for options that contradict one another, and for a folder, cache or
    tracker that can't be used. A request that only `pretrains` may say how features are whitened without an objective
    that whitens them."""
    from distill import check_settings, find_control
    from pipelines.files import check_cache, check_folder
    from pipelines.run.places import check_trackers  # here, since `armada --help` is fast
    from teacher_cache import ArmadaError

    check_settings(request)
    check_settings(request.settings)
    check_settings(request.aligner, "--aligner-")
    find_control(request.control)
    for faults in (_of_the_student, _of_adapters, _of_training, *(() if pretrains else (_of_objective,)), _of_features):
        if fault := next(faults(request), None):
            raise ArmadaError(fault)
    check_folder("--out", request.out)
    check_cache(request.cache)
    check_trackers(request.track)


def _of_the_student(request: RunRequest) -> Iterator[str]:
    from distill import is_random

    if request.load_4bit and not request.lora_rank:
        yield "--load-4bit: expected --lora-rank N beside it: weights in four bits can't be trained"
    if request.load_4bit and is_random(request.student):
        yield f"--load-4bit: expected a student with weights of its own, found {request.student}"
    if request.base_precision == "bf16" and not request.lora_rank:
        yield "--base-precision bf16: expected --lora-rank N beside it: weights that train stay in float32"
    if request.base_precision == "bf16" and (request.load_4bit or is_random(request.student)):
        yield "--base-precision bf16: expected a student with weights of its own, and no --load-4bit"
    if request.base_precision == "bf16" and request.precision not in ("auto", "bf16"):
        yield f"--base-precision bf16: expected --precision bf16 or auto, found {request.precision}"
    is_here = request.student in PACKAGED or is_random(request.student) or Path(request.student).exists()
    if request.student_revision and is_here:
        yield f"--student-revision: expected a student of the hub, found {request.student}, which has no revisions"


def _of_adapters(request: RunRequest) -> Iterator[str]:
    from distill import is_random

    given = {
        "--lora-targets": request.lora_targets is not None,
        "--lora-alpha": request.lora_alpha is not None,
        "--lora-dropout": request.lora_dropout > 0,
        "--lora-export adapter": request.lora_export == "adapter",
    }
    for flag, is_given in given.items():
        if is_given and not request.lora_rank:
            yield f"{flag}: expected --lora-rank N beside it: without it, all layers train"
    if request.lora_targets is not None and not request.lora_targets:
        yield "--lora-targets: expected names of layers, found none"
    if request.lora_export == "adapter" and request.layers:
        yield "--lora-export adapter: expected the whole student, found --layers: peft loads all layers"
    if request.lora_export == "adapter" and is_random(request.student):
        yield f"--lora-export adapter: expected a student that peft can load again, found {request.student}"


def _of_training(request: RunRequest) -> Iterator[str]:
    settings = request.settings
    if settings.accumulate > settings.batch_size:
        yield (
            f"--accumulate: expected at most as many parts as the batch has rows ({settings.batch_size}), found "
            f"{settings.accumulate}"
        )
    if settings.early_stopping_patience and settings.select != "validation":
        yield f"--early-stopping-patience: expected --select validation beside it, found {settings.select}"
    if settings.class_weights is not None and not settings.class_weights:
        yield "--class-weights: expected balanced, numbers or a file, found nothing"


def _of_objective(request: RunRequest) -> Iterator[str]:
    from distill import CROSSFIT_SETTINGS, changes

    settings = request.settings
    given = sorted(changes(settings).keys() & set(CROSSFIT_SETTINGS))
    if settings.objective == "armada" and given:
        yield (
            f"--{given[0].replace('_', '-')}: expected --objective crossfit beside it, found armada, which options of "
            "its own also choose"
        )
    if (settings.objective or given) and settings.objective != "armada" and not compiles(request):
        yield (
            f"--compile: expected --balance none beside --objective crossfit, found {settings.balance}: gradients are "
            "compared inside the student, where a compiled one has none to show"
        )


def compiles(request: RunRequest) -> bool:
    """False if the student is compiled and `crossfit` would balance gradients inside it."""
    return not request.compile or request.settings.balance == "none"


def _of_features(request: RunRequest) -> Iterator[str]:
    from distill import UNDISTILLED, find_control

    features, control = request.features, find_control(request.control)
    beside = [f"--{name}" for name in ("cache", "teacher", "encoder") if getattr(request, name) is not None]
    if request.samples > 1 and request.max_local_bytes is not None:
        yield "--samples: several pictures per prompt are joined in memory; leave out --max-local-bytes"
    if request.control != UNDISTILLED and not request.cache and features is None:
        yield "--cache URL is missing, or --features FILE; only --control undistilled needs none"
    if features is not None and beside:
        yield f"--features: expected no {beside[0]} beside it: the file replaces the cache"
    if features is not None and features.suffix not in (".npy", ".parquet"):
        yield f"--features: expected a file ending in .npy or .parquet, found {features}"
    if features is not None and control and control.encoder:
        yield f"--control {request.control}: expected --cache with features of {control.encoder}, found --features"
    if features is not None and features.suffix == ".parquet" and request.max_local_bytes is not None:
        yield "--max-local-bytes: expected a .npy file, which is read row by row, found --features of a .parquet file"
    if request.feature_keys is not None and (features is None or features.suffix != ".npy"):
        yield "--feature-keys: expected --features FILE.npy beside it; a .parquet file has its keys in a column"
