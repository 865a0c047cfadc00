"""The request for one training run: every option of `armada train`, declared once and checked before anything loads.

The command line, `--config` files, study files and Python name an option by the same word; `make_request` turns such
words and their values into a RunRequest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from distill import (
    PAPER_ALIGNER,
    PAPER_LAYERS,
    PAPER_SETTINGS,
    PRECISIONS,
    REGRESSIONS,
    AlignerSettings,
    Declared,
    TrainSettings,
    setting,
)


@dataclass(frozen=True)
class RunRequest:
    """What one run trains, on what, and where it is written. `control` is None or one of `distill.CONTROL_NAMES`."""

    task: str = setting(MISSING, "A task card's name.")
    student: str = setting(MISSING, "minilm, smollm2, a folder or a hub id.")
    out: Path = setting(MISSING, "Folder of the run.", metavar="DIR")
    cache: str | None = setting(None, "The cache with the training rows' features.", metavar="URL")
    teacher: str | None = setting(None, "Needed if the cache has several.", metavar="SPEC")
    encoder: str | None = setting(None, "Needed if the cache has several for the teacher.", metavar="SPEC")
    control: str | None = setting(None, "A control arm: undistilled, shuffled, ... (see the README).")
    data_files: Path | None = setting(
        None, "Training rows in the card's columns; or a folder with train.* and test.*.", metavar="PATH"
    )
    missing: str | None = setting(None, "drop: train on the rows that have a feature.", choices=("drop",))
    samples: int = setting(1, "Pictures per prompt that a row is trained with.", at_least=1)
    combine: str = setting(
        "mean",
        "How several pictures are used: the mean of their features, or one drawn per epoch.",
        choices=("mean", "draw"),
    )
    recipe: str | None = setting(
        None,
        "paper: the reference's settings, which select the epoch on the reported split. Other options win.",
        choices=("paper",),
    )
    layers: int | None = setting(None, "Keep only the student's first N layers.", at_least=1)
    lora_rank: int | None = setting(None, "Train low-rank adapters and the task head only.", at_least=1)
    lora_targets: tuple[str, ...] | None = setting(
        None, "Names of the adapted layers, separated by commas; default: every linear layer."
    )
    load_4bit: bool = setting(False, "With --lora-rank: hold the frozen weights in four bits while training.")
    base_precision: str = setting(
        "fp32", "With --lora-rank: number format of the frozen weights while training.", choices=("fp32", "bf16")
    )
    precision: str = setting(
        "auto", "Number format of the computation; auto: what is fastest, measured once on a CPU.", choices=PRECISIONS
    )
    regression: str = setting(
        "standardised",
        "Scores of a regression: standardised by the training rows, or through the reference's ReLU.",
        choices=REGRESSIONS,
    )
    settings: TrainSettings = field(default_factory=TrainSettings)
    aligner: AlignerSettings = field(default_factory=AlignerSettings)
    save_steps: int = setting(500, "Steps between checkpoints.", at_least=1)
    keep: int = setting(2, "Number of checkpoints kept.", at_least=1)
    max_local_bytes: int | None = setting(
        None, "Features larger than this are read from the shards, window by window.", at_least=1
    )
    track: tuple[str, ...] = setting((), "Trackers of accelerate, separated by commas, for example tensorboard.")


@dataclass(frozen=True)
class Option:
    """One option: its word (`lr`, `aligner_lr`), its flag, type and default, and the part of a request that it sets."""

    name: str
    flag: str
    type: Any
    default: Any  # MISSING if it has to be given
    declared: Declared
    part: str  # "settings", "aligner", or "" for the request itself
    attribute: str


@cache
def train_options() -> Mapping[str, Option]:
    """All options of a run by name, in the order in which help lists them."""
    found = [
        *_options(RunRequest, ""),
        *_options(TrainSettings, "settings"),
        *_options(AlignerSettings, "aligner", skip=("gamma", "regression")),
    ]
    return {option.name: option for option in found}


def _options(kind: type, part: str, skip: tuple[str, ...] = ()) -> list[Option]:
    types = get_type_hints(kind)
    return [_option(one, types[one.name], part) for one in _declared(kind) if one.name not in skip]


def _option(one: Field[Any], type_: Any, part: str) -> Option:
    declared: Declared = one.metadata["declared"]
    name = f"aligner_{one.name}" if part == "aligner" else one.name
    return Option(name, f"--{name.replace('_', '-')}", type_, one.default, declared, part, one.name)


def _declared(kind: type) -> list[Field[Any]]:
    return [one for one in fields(kind) if "declared" in one.metadata]


def make_request(values: Mapping[str, Any], where: str = "") -> RunRequest:
    """The request of options by name. Later layers win: defaults, the recipe, then `values`.

    Raises ArmadaError, naming `where`, for an unknown name (with the nearest known one) or a value of another type.
    """
    from teacher_cache import ArmadaError

    given = {name: _converted(find_option(name, where), value, where) for name, value in values.items()}
    from_recipe = {}
    if given.get("recipe") == "paper":
        aligner = {f"aligner_{one.name}": getattr(PAPER_ALIGNER, one.name) for one in fields(AlignerSettings)}
        from_recipe = {"layers": PAPER_LAYERS, "regression": "relu", **PAPER_SETTINGS, **aligner}
    parts: dict[str, dict[str, Any]] = {"": {}, "settings": {}, "aligner": {}}
    for name, value in {**from_recipe, **given}.items():
        option = train_options().get(name)
        if option:  # the recipe's gamma for the aligner is the run's
            parts[option.part][option.attribute] = value
    if lacking := [name for name, option in train_options().items() if option.default is MISSING and name not in given]:
        raise ArmadaError(f"{where}{': ' if where else ''}{train_options()[lacking[0]].flag} is missing")
    return replace(
        RunRequest(**parts[""]),
        settings=TrainSettings(**parts["settings"]),
        aligner=AlignerSettings(**parts["aligner"]),
    )


def check_values(values: Mapping[str, Any], where: str = "") -> None:
    """Raise ArmadaError for the first option whose name is unknown or whose value can't be."""
    from distill import find_control
    from teacher_cache import ArmadaError

    for name, value in values.items():
        option = find_option(name, where)
        converted = _converted(option, value, where)
        if expected := option.declared.complaint(converted):
            raise ArmadaError(f"{where}{': ' if where else ''}{name}: expected {expected}, found {value!r}")
        if name == "control":
            find_control(converted)


def find_option(name: str, where: str = "") -> Option:
    """The option of a name. Raises ArmadaError with the nearest known name."""
    from teacher_cache import ArmadaError

    known = train_options()
    if name not in known:
        near = get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ArmadaError(f"{where}{': ' if where else ''}unknown option {name!r}; {hint}")
    return known[name]


def _converted(option: Option, value: Any, where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    from teacher_cache import ArmadaError

    if isinstance(value, str) and "Path" in str(option.type) and not value.strip():
        raise ArmadaError(f"{where or option.flag}: {option.name}: expected a path, found nothing")
    if isinstance(value, str) and "tuple" in str(option.type):
        value = tuple(part.strip() for part in value.split(",") if part.strip())
    try:
        return TypeAdapter(option.type).validate_python(value)
    except ValidationError as error:
        raise ArmadaError(
            f"{where or option.flag}: {option.name}: {error.errors()[0]['msg'].lower()}, found {value!r}"
        ) from None


def check_request(request: RunRequest) -> None:
    """Raise ArmadaError for a value out of bounds, for options that contradict one another, and for a folder, cache or
    tracker that can't be used."""
    from distill import check_settings, find_control
    from pipelines.run.places import check_cache, check_folder, check_trackers
    from teacher_cache import ArmadaError

    check_settings(request)
    check_settings(request.settings)
    check_settings(request.aligner, "--aligner-")
    find_control(request.control)
    if fault := next(_contradictions(request), None):
        raise ArmadaError(fault)
    check_folder("--out", request.out)
    check_cache(request.cache)
    check_trackers(request.track)


def _contradictions(request: RunRequest) -> Iterator[str]:
    """Yield a message for each contradiction between options."""
    from distill import CROSSFIT_SETTINGS, UNDISTILLED, changes, is_random

    settings = request.settings
    if request.samples > 1 and request.max_local_bytes is not None:
        yield "--samples: several pictures per prompt are joined in memory; leave out --max-local-bytes"
    if request.load_4bit and not request.lora_rank:
        yield "--load-4bit: expected --lora-rank N beside it: weights in four bits can't be trained"
    if request.load_4bit and is_random(request.student):
        yield f"--load-4bit: expected a student with weights of its own, found {request.student}"
    if request.lora_targets is not None and not request.lora_rank:
        yield "--lora-targets: expected --lora-rank N beside it: without it, all layers train"
    if request.lora_targets is not None and not request.lora_targets:
        yield "--lora-targets: expected names of layers, found none"
    if request.base_precision == "bf16" and not request.lora_rank:
        yield "--base-precision bf16: expected --lora-rank N beside it: weights that train stay in float32"
    if request.base_precision == "bf16" and (request.load_4bit or is_random(request.student)):
        yield "--base-precision bf16: expected a student with weights of its own, and no --load-4bit"
    if request.base_precision == "bf16" and request.precision not in ("auto", "bf16"):
        yield f"--base-precision bf16: expected --precision bf16 or auto, found {request.precision}"
    if settings.accumulate > settings.batch_size:
        yield (
            f"--accumulate: expected at most as many parts as the batch has rows ({settings.batch_size}), found "
            f"{settings.accumulate}"
        )
    if settings.objective != "crossfit" and (given := sorted(changes(settings).keys() & set(CROSSFIT_SETTINGS))):
        yield f"--{given[0].replace('_', '-')}: expected --objective crossfit beside it, found {settings.objective}"
    if request.control != UNDISTILLED and not request.cache:
        yield "--cache URL is missing; only --control undistilled needs none"
