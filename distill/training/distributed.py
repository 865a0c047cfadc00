"""A student's weights, gradients and optimiser state in parts over all ranks: FSDP2, torch's `fully_shard`, where
accelerate's launcher asks for it (ACCELERATE_USE_FSDP, FSDP_VERSION=2).

Whatever leaves a rank is whole: checkpoints, the model that is evaluated, the export. So one process, or any number of
them, goes on from a sharded run's checkpoint, and the steps are those of one process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from teacher_cache import ArmadaError

Tree = TypeVar("Tree")
Student = TypeVar("Student", bound=nn.Module)


def is_sharded(accelerator: Any) -> bool:
    """Whether the weights are to be in parts. Raises ArmadaError for what of accelerate's FSDP isn't here."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy

    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true" or accelerator.num_processes == 1:
        return False
    asked = FullyShardedDataParallelPlugin()  # reads the launcher's variables
    refused = {
        f"fsdp_version {asked.fsdp_version}": asked.fsdp_version != 2,
        "fsdp_offload_params": isinstance(asked.cpu_offload, CPUOffloadPolicy),
        "fsdp_activation_checkpointing": asked.activation_checkpointing,
        # Other ranks' models would be empty, and transformers load them so.
        "fsdp_cpu_ram_efficient_loading": asked.cpu_ram_efficient_loading,
    }
    if found := [name for name, is_on in refused.items() if is_on]:
        raise ArmadaError(
            f"expected FSDP of version 2 without offloading, activation checkpointing or RAM-efficient loading, found "
            f"{', '.join(found)}; start by: accelerate launch --use_fsdp --fsdp_version 2 "
            "--fsdp_cpu_ram_efficient_loading false ..."
        )
    return True


def sharded_copy(student: Student, accelerator: Any) -> Student:
    """The student in parts over all ranks, on their devices. Its layers, which stand in lists of modules in every
    family, are brought together one at a time; the rest is whole while a step computes. `student` stays as it is, in
    this rank's memory.

    Weights travel in float32, and autocast computes as it does under DDP, so that both give the same numbers.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # Not for evaluation: it means autocast without DDP.
    copy: Student = accelerator.prepare_model(deepcopy(student), device_placement=False, evaluation_mode=True)
    lists = [module for module in copy.modules() if isinstance(module, nn.ModuleList)]
    for layer in chain.from_iterable(reversed(lists)):  # the inner ones first
        fully_shard(layer, mesh=mesh)
    fully_shard(copy, mesh=mesh)
    return copy


def gather_full(tree: Tree, keep: bool = True) -> Tree:
    """Every tensor in parts brought together on the CPU, one at a time; the rest of the tree as it is. All ranks have
    to call it; those that don't `keep` it get empty tensors."""

    def gather(part: DTensor) -> Tensor:
        full = part.full_tensor()
        return full.cpu() if keep else full.new_empty(0, device="cpu")

    return tree_map_only(DTensor, gather, tree)  # type: ignore[no-any-return]


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """This rank's part of a whole tensor, cut as `like` is, without asking another rank."""
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def shard_optimizer_state(state: Mapping[str, Any], trained: Sequence[Tensor]) -> dict[str, Any]:
    """An optimiser's whole state_dict cut as its parameters are; its counts of steps are whole everywhere."""
    parts = {
        place: {name: shard_like(value, trained[place]) if value.dim() else value for name, value in moments.items()}
        for place, moments in state["state"].items()
    }
    return {**state, "state": parts}


@torch.no_grad()
def copy_full_weights(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the trained weights of its sharded copy, on every rank."""
    for value, part in zip(target.parameters(), source.parameters(), strict=True):
        if part.requires_grad:
            value.copy_(part.full_tensor() if isinstance(part, DTensor) else part)


# --- merged: distill.training.distributed
# Several processes as one: a batch's outputs brought together, and one generator state a rank.
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
