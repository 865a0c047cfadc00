"""What decides a student's training beside its data and start, and the paper's own choice of it.

Importing it costs nothing: no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class AlignerSettings:
    """All that decides an aligner's training beside its data. `width` is the hidden layers', `angle` in radians."""

    width: int = 512
    dropout: float = 0.1
    gamma: float = 1.0
    lr: float = 1e-3
    weight_decay: float = 0.01
    rotation: str = "descent"  # CayleyDescent; or "adamw": torch's parametrisation, as the reference has it
    angle: float = 0.05
    batch_size: int = 32
    clip_norm: float = 1.0


@dataclass(frozen=True)
class TrainSettings:
    """alpha, beta, gamma and temperature as in the paper; `manifold` is one of losses.MANIFOLD_LOSSES.

    `batch_size` is an optimiser step's rows over all ranks. `accumulate` cuts them into as many parts, one after the
    other: the mean losses stay those of the whole batch, while a manifold loss compares within each part.
    """

    manifold: str = "cosine"
    alpha: float = 0.5
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 5.0
    epochs: int = 3
    batch_size: int = 32
    accumulate: int = 1
    lr: float = 5e-5
    schedule: str = "linear"  # or "constant"
    weight_decay: float = 0.01
    warmup: float = 0.1  # of all steps; then a linear schedule falls to zero
    clip_norm: float = 1.0
    dropout: float = 0.1  # of the added heads
    max_length: int = 128  # tokens
    max_steps: int | None = None
    by_length: bool = True  # rows of like length share a batch
    select: str = "last"  # or "validation", "test": the split on which the best epoch is picked
    seed: int = 0

    @property
    def loss(self) -> dict[str, Any]:
        """What `losses.student_loss` asks of them, by its own names."""
        return {name: getattr(self, name) for name in ("manifold", "alpha", "beta", "gamma", "temperature")}


PAPER_LAYERS = 6
PAPER_ALIGNER = AlignerSettings(width=768, batch_size=8, rotation="adamw")


def paper_recipe(settings: TrainSettings) -> TrainSettings:
    """The reference's schedule, which picks its epoch on the reported split; the manifold loss, the seed and a cap on
    steps stay as they are given. PAPER_ALIGNER and PAPER_LAYERS belong to it."""
    return replace(
        settings,
        alpha=0.5,
        beta=1.0,
        gamma=1.0,
        temperature=5.0,
        epochs=10,
        batch_size=8,
        accumulate=1,
        lr=2e-5,
        schedule="constant",
        warmup=0.0,
        by_length=False,
        select="test",
    )
