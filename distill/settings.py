"""What decides a student's training beside its data and start, and the paper's own choice of it."""

from __future__ import annotations

from dataclasses import dataclass, replace


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


def paper_recipe(settings: TrainSettings) -> TrainSettings:
    """The reference's schedule (its figures: shared golden README), which picks its epoch on the reported split; the
    manifold loss and the seed stay as they are given."""
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
