"""The request for one pre-training: which of the declared options `armada pretrain` takes, and the checks of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import Declared
from pipelines.run.request import Option, RunRequest, make_request, train_options

if TYPE_CHECKING:
    from distill import Mending, Split
    from teacher_cache import Cache

# The options of `armada train` that a pre-training has too.
OF_THE_RUN = (
    *("student", "out", "student_revision", "trust_remote_code", "layers"),
    *("cache", "teacher", "encoder", "features", "feature_keys", "control", "missing", "samples", "combine"),
)
OF_THE_MACHINE = ("precision", "gradient_checkpointing", "compile", "save_steps", "keep", "max_local_bytes", "track")
OF_THE_TRAINING = (
    *("epochs", "batch_size", "accumulate", "lr", "schedule", "weight_decay", "no_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "warmup", "warmup_steps", "clip_norm"),
    *("max_length", "max_steps", "by_length", "seed", "components", "power"),
)
TEXT_COLUMN = Option(
    "text_column",
    "--text-column",
    "str | None",
    None,
    Declared("The column of the texts, which are the prompts as they are; default: text."),
    "",
    "text_column",
)


@dataclass(frozen=True)
class PretrainRequest:
    """Which texts a student is pre-trained on, and how. Of `run`, only the options of `pretrain_options` count."""

    texts: str  # texts as `cache build` takes them, or a task card, whose training rows are read without their labels
    text_column: str | None
    run: RunRequest


def pretrain_options() -> Mapping[str, Option]:
    """The options of a pre-training by name, in the order in which help lists them."""
    known = train_options()
    names = (*OF_THE_RUN, *OF_THE_MACHINE, *OF_THE_TRAINING)
    return {"text_column": TEXT_COLUMN, **{name: known[name] for name in names}}


def make_pretrain_request(texts: str, values: Mapping[str, Any]) -> PretrainRequest:
    """The request of options by name. Raises ArmadaError for a value of another type, or if one is missing."""
    said = {name: value for name, value in values.items() if name != "text_column"}
    kind = "task" if _is_card(texts) else "rows"
    return PretrainRequest(texts, values.get("text_column"), make_request({kind: texts, **said}))


def _is_card(texts: str) -> bool:
    from distill import card_names

    return Path(texts).suffix in (".yaml", ".yml") or (texts in card_names() and not Path(texts).exists())


def check_pretrain_request(request: PretrainRequest) -> None:
    """Raise ArmadaError for a control that leaves nothing to learn, and as `check_request` does."""
    from distill import CONTROL_NAMES, find_control
    from pipelines.run.request import check_request
    from teacher_cache import ArmadaError

    run = request.run
    control = find_control(run.control)
    if run.control is not None and not (control and control.changes_features):
        named = [name for name in CONTROL_NAMES if (one := find_control(name)) and one.changes_features]
        raise ArmadaError(
            f"--control: expected one that changes the features ({', '.join(named)}), found {run.control}: "
            "pre-training has nothing else to learn from"
        )
    if not run.cache and run.features is None:
        raise ArmadaError("--cache URL is missing, or --features FILE: pre-training learns from features alone")
    check_request(run, pretrains=True)


def read_texts(request: PretrainRequest) -> Split:
    """Return the rows to pre-train on, each text once, whatever their order in the file, with 0 for each label.

    Raise ArmadaError if the texts can't be read.
    """
    from distill import Split, card_names, column_prompts, find_task, load_splits
    from teacher_cache import ArmadaError, did_you_mean, iterate_prompts, prompt_key

    if request.run.task:
        if request.text_column:
            raise ArmadaError(f"--text-column: the card {request.texts} has its own columns; leave it out")
        return without_labels(load_splits(find_task(request.texts)).train)
    path = Path(request.texts)
    if not path.exists() and not path.suffix and not request.texts.startswith("hf:"):
        near = did_you_mean(request.texts, card_names()) or "; known tasks: armada tasks"
        raise ArmadaError(f"{request.texts}: expected a file of texts or a task, found neither{near}")
    is_lines = path.suffix == ".txt" and not path.is_dir()
    texts = iterate_prompts(path) if is_lines else column_prompts(request.texts, request.text_column or "text")
    rows = sorted({prompt_key(text): text for text in texts}.items())
    return Split([key for key, _ in rows], [(text,) for _, text in rows], [text for _, text in rows], [0] * len(rows))


def without_labels(rows: Split) -> Split:
    """Return the same texts and prompts, with 0 for each label and no questions."""
    from distill import Split

    return Split(rows.ids, rows.texts, rows.prompts, [0] * len(rows))


def mending_of(request: PretrainRequest, names: tuple[str, str], cache: Cache) -> Mending:
    """Return the commands that build what a pre-training looks for. `names` are the specs of teacher and encoder."""
    from distill import Mending

    column = ("--text-column", request.text_column) if request.text_column else ()
    return Mending((request.texts, *column), *names, str(cache.store), request.run.samples)
