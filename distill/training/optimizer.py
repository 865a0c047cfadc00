"""The optimiser of a student and the schedule of its learning rate, as its settings describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill.settings import TrainSettings

if TYPE_CHECKING:
    from torch.optim.lr_scheduler import LRScheduler

# As transformers' Trainer does (`get_decay_parameter_names`), which tests compare.
NO_DECAY = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def make_optimizer(
    student: nn.Module, settings: TrainSettings, device: torch.device
) -> tuple[torch.optim.Optimizer, list[Tensor]]:
    """Return AdamW over the trained weights, and these weights in the order of its state."""
    groups = _groups(student, settings)
    optimizer = torch.optim.AdamW(
        groups,
        lr=settings.lr,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        weight_decay=settings.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )
    return optimizer, [weights for group in groups for weights in group["params"]]


def _groups(student: nn.Module, settings: TrainSettings) -> list[dict[str, Any]]:
    trained = {name: weights for name, weights in student.named_parameters() if weights.requires_grad}
    if settings.no_decay == "none":
        return [{"params": list(trained.values())}]
    from transformers.trainer_pt_utils import get_parameter_names

    decayed = set(get_parameter_names(student, [nn.LayerNorm], NO_DECAY))
    groups: list[dict[str, Any]] = [
        {"params": [weights for name, weights in trained.items() if name in decayed]},
        {"params": [weights for name, weights in trained.items() if name not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_schedule(optimizer: torch.optim.Optimizer, settings: TrainSettings, total: int) -> LRScheduler:
    """Return the schedule of transformers for `total` steps, of which the first ones warm up."""
    from transformers import get_scheduler

    name = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    warmup = int(settings.warmup * total) if settings.warmup_steps is None else settings.warmup_steps
    schedule: LRScheduler = get_scheduler(name, optimizer, warmup, total)
    return schedule
