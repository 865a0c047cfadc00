"""Several processes as one: a batch's outputs brought together, and one generator state a rank.

Every rank computes the loss of the whole batch from all ranks' outputs, of which only its own carry a gradient. Times
the number of ranks, since DDP averages, the gradient is that of one process, batch means and relations included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

RngState = dict[str, Any]


def gather_rows(values: Tensor, own: Sequence[int], rank: int) -> Tensor:
    """(R, D), the rows of all ranks in order, from each rank's (B, D). `own[r]` rows of rank r count, the rest is
    padding; only those of `rank` carry a gradient."""
    if len(own) == 1:
        return values
    parts = [torch.empty_like(values) for _ in own]
    torch.distributed.all_gather(parts, values.detach().contiguous())
    parts[rank] = values
    return torch.cat([part[:count] for part, count in zip(parts, own, strict=True)])


def rng_states(accelerator: Any) -> list[RngState]:
    """The generator states of all ranks, in order."""
    from accelerate.utils import gather_object

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    mine = {"cpu": torch.get_rng_state(), "cuda": cuda}
    return list(gather_object([mine])) if accelerator.num_processes > 1 else [mine]


def set_rng_state(states: Sequence[RngState], rank: int, seed: int) -> None:
    """Take up this rank's state; a rank that has none, since there were fewer, starts one from `seed`."""
    if rank >= len(states):
        torch.manual_seed(seed)
        return
    torch.set_rng_state(states[rank]["cpu"])
    if states[rank]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states[rank]["cuda"])
