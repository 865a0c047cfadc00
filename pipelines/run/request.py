"""The request for one training run: every option of `armada train`, declared once and checked before anything loads.

The command line, `--config` files, study files and Python name an option by the same word; `make_request` turns such
words and their values into a RunRequest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from distill import (
    ARMADA_SETTINGS,
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
from pipelines.run.checks import check_request as check_request
from pipelines.run.values import converted


@dataclass(frozen=True)
class RunRequest:
    """What one run trains, on what, and where it is written. `control` is None or one of `distill.CONTROL_NAMES`."""

    task: str = setting(MISSING, "A task card's name, or the file of a card of your own, CARD.yaml.")
    student: str = setting(MISSING, "minilm, smollm2, a folder or a hub id.")
    out: Path = setting(MISSING, "Folder of the run.", metavar="DIR")
    student_revision: str | None = setting(
        None, "Commit, tag or branch of a student on the hub; default: main.", metavar="REVISION"
    )
    trust_remote_code: bool = setting(
        False, "Run the code that comes with the student's files. Without this, a student that needs it is refused."
    )
    cache: str | None = setting(None, "The cache with the training rows' features.", metavar="URL")
    teacher: str | None = setting(None, "Needed if the cache has several.", metavar="SPEC")
    encoder: str | None = setting(None, "Needed if the cache has several for the teacher.", metavar="SPEC")
    control: str | None = setting(None, "A control arm: undistilled, shuffled, ... (see docs/studies.md).")
    features: Path | None = setting(
        None,
        "Features of your own instead of a cache: a .parquet file with a column prompt, prompt_key or id, and a column "
        "of lists; or a .npy file with FILE.keys.txt, .jsonl or .parquet beside it.",
        metavar="FILE",
    )
    feature_keys: Path | None = setting(None, "Keys of the rows of a .npy file of --features.", metavar="FILE")
    data_files: Path | None = setting(
        None, "Training rows in the card's columns; or a folder with train.* and test.*.", metavar="PATH"
    )
    rows: str | None = setting(None, "Rows without a card: a file, a folder or hf:DATASET; with --task: data files.")
    text_column: str | None = setting(
        None, "Of ROWS: the column of the texts, or two for pairs, A,B; guessed from plain names.", metavar="C[,C2]"
    )
    label_column: str | None = setting(
        None, "Of ROWS: the column of the labels, or several of 0 and 1; guessed from plain names.", metavar="L[,L2...]"
    )
    type: str | None = setting(
        None, "Of ROWS: classification, regression, multi-label, or similarity of pairs; guessed from the labels."
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
    lora_alpha: float | None = setting(
        None, "Scale of the adapters: they are multiplied by alpha / rank; default: twice the rank.", above=0
    )
    lora_dropout: float = setting(0.0, "Dropout of the adapters.", at_least=0, below=1)
    lora_targets: tuple[str, ...] | None = setting(
        None,
        "Names of the adapted layers, separated by commas; default: every linear layer.",
        also="lora_target_modules",
    )
    lora_export: str = setting(
        "merged",
        "merged: a plain checkpoint; adapter: the adapters and the task head only, which peft loads on the student.",
        choices=("merged", "adapter"),
    )
    load_4bit: bool = setting(False, "With --lora-rank: hold the frozen weights in four bits while training.")
    base_precision: str = setting(
        "fp32", "With --lora-rank: number format of the frozen weights while training.", choices=("fp32", "bf16")
    )
    precision: str = setting(
        "auto",
        "Number format of the computation; auto: bf16 or fp16 on a GPU, and what is faster on a CPU, measured once.",
        choices=PRECISIONS,
    )
    gradient_checkpointing: bool = setting(False, "Compute activations twice instead of keeping them in memory.")
    compile: bool = setting(False, "Compile the student by torch.compile while it trains.", also="torch_compile")
    eval_batch_size: int | None = setting(
        None,
        "Rows per process that are evaluated at once; default: 64, or 16 of a generative student.",
        at_least=1,
        also="per_device_eval_batch_size",
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


# Options of the first group and of the second say the same in two ways.
_TWO_WAYS = [(("warmup",), ("warmup_steps",)), (("cache", "teacher", "encoder"), ("features", "feature_keys"))]
RIVALS = [*_TWO_WAYS, *((second, first) for first, second in _TWO_WAYS)]
OF_ARMADA = (*sorted(ARMADA_SETTINGS), "aligner_rotation", "aligner_angle")  # options that choose the objective armada


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
    of_aligner = _options(AlignerSettings, "aligner", skip=("gamma", "regression"))
    found = [*_options(RunRequest, ""), *_options(TrainSettings, "settings"), *of_aligner]
    return {option.name: option for option in found}


def _options(kind: type, part: str, skip: tuple[str, ...] = ()) -> list[Option]:
    types = get_type_hints(kind)
    found = [one for one in fields(kind) if "declared" in one.metadata and one.name not in skip]
    return [_option(one, types[one.name], part) for one in found]


def _option(one: Field[Any], type_: Any, part: str) -> Option:
    declared: Declared = one.metadata["declared"]
    name = f"aligner_{one.name}" if part == "aligner" else one.name
    return Option(name, f"--{name.replace('_', '-')}", type_, one.default, declared, part, one.name)


def make_request(values: Mapping[str, Any], where: str = "") -> RunRequest:
    """The request of options by name. Later layers win: defaults, the recipe, then `values`.

    Raises ArmadaError, naming `where`, for an unknown name, an option under two names, or a value of another type.
    """
    from teacher_cache import ArmadaError

    given = {name: converted(train_options()[name], value, where) for name, value in _named(values, where).items()}
    if given.get("rows"):
        given.setdefault("task", "")  # of a card that is made from the rows
    from_recipe = {}
    if given.get("recipe") == "paper":
        aligner = {f"aligner_{one.name}": getattr(PAPER_ALIGNER, one.name) for one in fields(AlignerSettings)}
        from_recipe = {"layers": PAPER_LAYERS, "regression": "relu", **PAPER_SETTINGS, **aligner}
    parts: dict[str, dict[str, Any]] = {"": {}, "settings": {}, "aligner": {}}
    implied = {"select": "validation"} if given.get("early_stopping_patience") else {}
    if not given.keys().isdisjoint(OF_ARMADA):
        implied["objective"] = "armada"
    for name, value in {**from_recipe, **implied, **given}.items():
        option = train_options().get(name)
        if option:  # the recipe's gamma for the aligner is the run's
            parts[option.part][option.attribute] = value
    if lacking := [name for name, option in train_options().items() if option.default is MISSING and name not in given]:
        way = "; rows of your own need none: armada train ROWS" if lacking[0] == "task" else ""
        raise ArmadaError(f"{where}{': ' if where else ''}{train_options()[lacking[0]].flag} is missing{way}")
    return replace(
        RunRequest(**parts[""]),
        settings=TrainSettings(**parts["settings"]),
        aligner=AlignerSettings(**parts["aligner"]),
    )


def layered(lower: Mapping[str, Any], upper: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The options of two layers, of which the upper one wins: also over other options that say the same in another way.

    `where` names the lower layer in errors.
    """
    below, above = _named(lower, where), _named(upper, "")
    beaten = {name for group, other in RIVALS for name in other if not above.keys().isdisjoint(group)}
    return {**{name: value for name, value in below.items() if name not in beaten}, **above}


def _named(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values by the options' own names. Raises ArmadaError for an unknown name, or an option under two names."""
    from teacher_cache import ArmadaError

    found: dict[str, Any] = {}
    for given, value in values.items():
        name = find_option(given, where).name
        if name in found:
            also = train_options()[name].declared.also
            place = f"{where}: " if where else ""
            raise ArmadaError(f"{place}expected {name} or {also}, which are one option, found both")
        found[name] = value
    return found


def check_values(values: Mapping[str, Any], where: str = "") -> None:
    """Raise ArmadaError for the first option whose name is unknown or whose value can't be."""
    from distill import find_control
    from teacher_cache import ArmadaError

    for name, value in values.items():
        option = find_option(name, where)
        found = converted(option, value, where)
        if expected := option.declared.complaint(found):
            raise ArmadaError(f"{where}{': ' if where else ''}{name}: expected {expected}, found {value!r}")
        if name == "control":
            find_control(found)


def find_option(name: str, where: str = "") -> Option:
    """The option of a name, or of its name in transformers' Trainer. Raises ArmadaError with the nearest known name."""
    from teacher_cache import ArmadaError

    known = {**train_options(), **{one.declared.also: one for one in train_options().values() if one.declared.also}}
    if name not in known:
        near = get_close_matches(name, known, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        raise ArmadaError(f"{where}{': ' if where else ''}unknown option {name!r}; {hint}")
    return known[name]
