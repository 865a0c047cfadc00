"""Settings: everything that decides a student's training besides its data and its initial weights.

Each setting is declared once, with its default, its help text and its bounds; the command line, study files and Python
read that declaration. `changes` reduces settings to the fields that differ from a frozen baseline; runs, checkpoints
and stored aligners are named by those alone, so a new setting with a neutral default changes no name.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from distill.declared import setting

REGRESSIONS = ("standardised", "relu")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
SCHEDULES = ("linear", "constant", "cosine", "inverse_sqrt")  # of transformers
OBJECTIVES = ("armada", "crossfit")
CROSSFIT_SETTINGS = ("folds", "output_loss", "contrast", "components", "power", "balance")  # of no other objective
ARMADA_SETTINGS = ("manifold", "beta", "gamma", "dropout")  # of no other objective
OUTPUT_LOSSES = ("kl", "mse")
BALANCES = ("contrast", "all", "none")
MANIFOLD_LOSSES = ("cosine", "euclid", "pointwise", "relational", "none")


@dataclass(frozen=True)
class AlignerSettings:
    """Everything that decides an aligner's training besides its data. `angle` is in radians."""

    width: int = setting(512, "Width of the aligner's hidden layers.", at_least=1)
    dropout: float = setting(0.1, "Dropout of the aligner.", at_least=0, at_most=1)
    gamma: float = setting(1.0, "Weight of the aligner's auxiliary head; a run uses --gamma.", at_least=0)
    lr: float = setting(1e-3, "Learning rate of the aligner.", above=0)
    weight_decay: float = setting(0.01, "Weight decay of the aligner.", at_least=0)
    rotation: str = setting(
        "descent",
        "How the orthogonal matrix is trained: descent, by low-rank Cayley steps; adamw, by torch's parametrization.",
        choices=("descent", "adamw"),
    )
    angle: float = setting(0.05, "Step size of the Cayley steps, in radians.", above=0)
    batch_size: int = setting(32, "Batch size of the aligner.", at_least=1)
    clip_norm: float = setting(1.0, "Largest gradient norm of the aligner.", above=0)
    regression: str = setting("standardised", "Scores of a regression; a run uses --regression.", choices=REGRESSIONS)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that decides a student's training besides its data, its initial weights and its aligner.

    With the objective `crossfit`, `contrast` replaces `beta`, and `manifold` and `gamma` are not used. None is the
    objective of the task, which `armada train` chooses; functions that take no task read it as `armada`.
    `alpha`, `beta`, `gamma` and `temperature` are those of arXiv 2603.10877. `batch_size` counts the rows of one
    optimizer step over all ranks. `accumulate` computes them in as many parts: the mean losses are still those of the
    whole batch, but a manifold loss compares rows within each part only.
    """

    manifold: str = setting("cosine", "Manifold loss.", choices=MANIFOLD_LOSSES)
    alpha: float = setting(0.5, "Weight of output alignment; the task has weight 1 - alpha.", at_least=0, at_most=1)
    beta: float = setting(1.0, "Weight of the manifold loss.", at_least=0)
    gamma: float = setting(1.0, "Weight of the auxiliary heads.", at_least=0)
    temperature: float = setting(5.0, "Temperature of output alignment.", above=0)
    epochs: int = setting(3, "Passes over the training rows.", at_least=1, also="num_train_epochs")
    batch_size: int = setting(32, "Rows per optimizer step, over all processes.", at_least=1)
    accumulate: int = setting(
        1, "Number of parts in which a batch is computed.", at_least=1, also="gradient_accumulation_steps"
    )
    lr: float = setting(5e-5, "Peak learning rate.", above=0, also="learning_rate")
    schedule: str = setting("linear", "Learning rate after warm-up.", choices=SCHEDULES, also="lr_scheduler_type")
    weight_decay: float = setting(0.01, "Weight decay of AdamW.", at_least=0)
    no_decay: str = setting(
        "none",
        "Weights without decay; biases-and-norms is what transformers' Trainer leaves out.",
        choices=("none", "biases-and-norms"),
    )
    adam_beta1: float = setting(0.9, "Decay rate of AdamW's mean gradient.", at_least=0, below=1)
    adam_beta2: float = setting(0.999, "Decay rate of AdamW's mean squared gradient.", at_least=0, below=1)
    adam_epsilon: float = setting(1e-8, "Added to the root of AdamW's mean squared gradient.", above=0)
    warmup: float = setting(
        0.1, "Fraction of all steps in which the learning rate rises.", at_least=0, at_most=1, also="warmup_ratio"
    )
    warmup_steps: int | None = setting(None, "Steps in which it rises, instead of --warmup.", at_least=0)
    clip_norm: float = setting(1.0, "Largest gradient norm.", above=0, also="max_grad_norm")
    label_smoothing: float = setting(
        0.0,
        "Part of each label that is spread over all classes, or over all tokens of a generative student.",
        at_least=0,
        below=1,
        also="label_smoothing_factor",
    )
    class_weights: tuple[str, ...] | None = setting(
        None,
        "Weights of the classes in the task loss: balanced, for the inverse of their frequency; numbers in the card's "
        "order of classes; CLASS=NUMBER for each; or a .json or .yaml file of them.",
        metavar="W,W,...",
    )
    dropout: float = setting(0.1, "Dropout of the heads that distillation adds.", at_least=0, at_most=1)
    max_length: int | None = setting(
        None,
        "Tokens per row; longer rows are cut. Default: 128, or more if over 1 % of the training rows are longer.",
        at_least=8,
    )
    max_steps: int | None = setting(None, "Stop after this many optimizer steps.", at_least=1)
    by_length: bool = setting(True, "Batch rows of similar length together.")
    select: str = setting(
        "last",
        "Which epoch is exported: the last, or the best on a split.",
        choices=("last", "validation", "test"),
    )
    early_stopping_patience: int | None = setting(
        None,
        "Stop after this many epochs without a better one on validation rows, and export the best (--select "
        "validation).",
        at_least=1,
    )
    seed: int = setting(0, "Seed of initial weights, row order and dropout.", at_least=0, at_most=2**63 - 1)
    objective: str | None = setting(
        None,
        "What a student learns from pictures: crossfit, from cross-fitted aligners and a contrast with all pictures; "
        "armada, as the reference. Only crossfit has --folds, --output-loss, --contrast, --components, --power and "
        "--balance; only armada has --manifold, --beta, --gamma, --dropout, --aligner-rotation and --aligner-angle. "
        "Default: armada beside an option of its own, --compile or --recipe paper, and for generation and similarity "
        "tasks; else crossfit.",
        choices=OBJECTIVES,
    )
    folds: int = setting(5, "Folds of rows; an aligner that has not seen its labels teaches each. 1: none.", at_least=1)
    output_loss: str = setting("kl", "T^2 KL of the outputs, or the reference's MSE.", choices=OUTPUT_LOSSES)
    contrast: float = setting(0.1, "Weight of the contrast with the features of all pictures.", at_least=0)
    components: int = setting(64, "Whitened components of the features; 0: the raw features.", at_least=0)
    power: float = setting(0.5, "Power of the components' singular values.", at_least=0, at_most=1)
    balance: str = setting(
        "contrast",
        "Which of the teacher's terms are weighted so that their gradients are as large as the task's.",
        choices=BALANCES,
    )

    @property
    def loss(self) -> dict[str, Any]:
        """The arguments of `losses.student_loss` by name."""
        names = ("manifold", "alpha", "beta", "gamma", "temperature", "label_smoothing")
        return {name: getattr(self, name) for name in names}


# The defaults of 2026-11. Never edit an entry: a name is made of what differs from these values. A field without an
# entry is compared with its own default, which therefore has to be neutral and to stay as it is.
BASELINE: dict[str, dict[str, Any]] = {
    "AlignerSettings": {
        "width": 512,
        "dropout": 0.1,
        "gamma": 1.0,
        "lr": 1e-3,
        "weight_decay": 0.01,
        "rotation": "descent",
        "angle": 0.05,
        "batch_size": 32,
        "clip_norm": 1.0,
    },
    "TrainSettings": {
        "manifold": "cosine",
        "alpha": 0.5,
        "beta": 1.0,
        "gamma": 1.0,
        "temperature": 5.0,
        "epochs": 3,
        "batch_size": 32,
        "accumulate": 1,
        "lr": 5e-5,
        "schedule": "linear",
        "weight_decay": 0.01,
        "warmup": 0.1,
        "clip_norm": 1.0,
        "dropout": 0.1,
        "max_length": 128,
        "max_steps": None,
        "by_length": True,
        "select": "last",
        "seed": 0,
        "objective": "armada",
    },
}


def baseline(kind: type) -> dict[str, Any]:
    """The frozen value of each field of a settings class, by which its instances are compared."""
    frozen = BASELINE.get(kind.__name__, {})
    return {one.name: frozen.get(one.name, one.default) for one in fields(kind)}


def changes(settings: Any) -> dict[str, Any]:
    """The fields of settings that differ from the baseline: all of them that a name or a key may contain."""
    start = baseline(type(settings))
    found = {name: getattr(settings, name) for name in start}
    return {name: value for name, value in found.items() if value != start[name] and not _is_open(value, start[name])}


def _is_open(value: Any, start: Any) -> bool:
    """Return True for a value that is chosen later, from the data: None where the baseline has a value."""
    return value is None and start is not None


def with_baseline(kind: type, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that a record stands for, whether it holds them in full, as older records do, or only `changes`."""
    start = baseline(kind)
    return {**start, **{name: value for name, value in recorded.items() if not _is_open(value, start.get(name))}}


PAPER_LAYERS = 6
PAPER_ALIGNER = AlignerSettings(width=768, batch_size=8, rotation="adamw")
# The reference's schedule, which picks its epoch on the reported split. PAPER_ALIGNER and PAPER_LAYERS belong to it.
PAPER_SETTINGS: dict[str, Any] = {
    "objective": "armada",
    "alpha": 0.5,
    "beta": 1.0,
    "gamma": 1.0,
    "temperature": 5.0,
    "epochs": 10,
    "batch_size": 8,
    "accumulate": 1,
    "lr": 2e-5,
    "schedule": "constant",
    "warmup": 0.0,
    "by_length": False,
    "max_length": 128,
    "select": "test",
}
