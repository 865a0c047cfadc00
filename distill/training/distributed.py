"""Training with several processes (ranks): gathered batches, one generator state per rank, and sharded weights.

A loss of the whole batch needs the outputs of all ranks, so they are gathered. Every rank has its own random generator.

If accelerate's launcher sets ACCELERATE_USE_FSDP and FSDP_VERSION=2, weights, gradients and optimiser state are sharded
over all ranks by FSDP2, torch's `fully_shard`. Checkpoints, the evaluated model and the export are always complete, so
any number of processes can resume the checkpoint of a sharded run. The steps equal those of one process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from itertools import chain, count
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from distill.students.sharing import Shared
from teacher_cache import ArmadaError

if TYPE_CHECKING:
    from accelerate import Accelerator

_BARRIERS = count()
RngState = dict[str, Any]
Tree = TypeVar("Tree")
Student = TypeVar("Student", bound=nn.Module)


def is_sharded(accelerator: Accelerator) -> bool:
    """Return True if the weights are to be sharded. Raise ArmadaError if an unsupported option of FSDP is set."""
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import CPUOffloadPolicy

    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true" or accelerator.num_processes == 1:
        return False
    plugin = FullyShardedDataParallelPlugin()  # reads the variables of the launcher
    refused = {
        f"fsdp_version {plugin.fsdp_version}": plugin.fsdp_version != 2,
        "fsdp_offload_params": isinstance(plugin.cpu_offload, CPUOffloadPolicy),
        "fsdp_activation_checkpointing": plugin.activation_checkpointing,
        # transformers would load the models of all ranks but the first without weights.
        "fsdp_cpu_ram_efficient_loading": plugin.cpu_ram_efficient_loading,
    }
    if found := [name for name, is_on in refused.items() if is_on]:
        raise ArmadaError(
            f"expected FSDP of version 2 without offloading, activation checkpointing or RAM-efficient loading, found "
            f"{', '.join(found)}; start with: accelerate launch --use_fsdp --fsdp_version 2 "
            "--fsdp_cpu_ram_efficient_loading false ..."
        )
    return True


def sharded_copy(student: Student, accelerator: Accelerator) -> Student:
    """Return a copy of the student that is sharded over all ranks, on their devices. `student` is not changed.

    The layers, which every family keeps in a ModuleList, are gathered one at a time; the other modules stay gathered
    during a step. Weights are communicated in float32 and autocast works as under DDP, so both give the same numbers.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    # `evaluation_mode` adds autocast without DDP; the model still trains.
    copy: Student = accelerator.prepare_model(deepcopy(student), device_placement=False, evaluation_mode=True)
    lists = [module for module in copy.modules() if isinstance(module, nn.ModuleList)]
    for layer in chain.from_iterable(reversed(lists)):  # inner lists first
        fully_shard(layer, mesh=mesh)
    fully_shard(copy, mesh=mesh)
    return copy


def gather_full(tree: Tree, keep: bool = True) -> Tree:
    """Gather every sharded tensor of a tree on the CPU, one at a time. Everything else in the tree is not changed.

    All ranks must call it. Ranks with `keep` False get empty tensors.
    """

    def gather(part: DTensor) -> Tensor:
        full = part.full_tensor()
        return full.cpu() if keep else full.new_empty(0, device="cpu")

    return tree_map_only(DTensor, gather, tree)  # type: ignore[no-any-return]


def shard_like(value: Tensor, like: Tensor) -> Tensor:
    """Return this rank's shard of a full tensor, sharded like `like`, without communication."""
    if not isinstance(like, DTensor):
        return value
    value = value.to(like.device)
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def shard_optimizer_state(state: Mapping[str, Any], trained: Sequence[Tensor]) -> dict[str, Any]:
    """Return a full state_dict of an optimiser, sharded like its parameters. Step counts are not sharded."""
    parts = {
        place: {name: shard_like(value, trained[place]) if value.dim() else value for name, value in moments.items()}
        for place, moments in state["state"].items()
    }
    return {**state, "state": parts}


@torch.no_grad()
def copy_full_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy the trained weights of the sharded copy `source` into `target`. All ranks must call it."""
    for value, part in zip(target.parameters(), source.parameters(), strict=True):
        if part.requires_grad:
            value.copy_(part.full_tensor() if isinstance(part, DTensor) else part)


def gather_rows(values: Tensor, own: Sequence[int], rank: int) -> Tensor:
    """Gather the (B, D) rows of all ranks into (R, D), in the order of the ranks. All ranks must call it.

    Only the first `own[r]` rows of rank r are kept, because the others are padding. Only the rows of `rank` carry a
    gradient.
    """
    if len(own) == 1:
        return values
    parts = [torch.empty_like(values) for _ in own]
    torch.distributed.all_gather(parts, values.detach().contiguous())
    parts[rank] = values
    return torch.cat([part[:count] for part, count in zip(parts, own, strict=True)])


def wait_for_all(accelerator: Accelerator) -> None:
    """Return when all ranks have called it, however long that takes.

    A barrier of the process group fails if a rank comes later than the time-out of the group, as where one evaluates or
    trains an aligner for half an hour. If a rank ends, its launcher ends the others.
    """
    if accelerator.num_processes == 1:
        return
    store = torch.distributed.distributed_c10d._get_default_store()
    number = next(_BARRIERS)
    names = [f"armada/barrier/{number}/{rank}" for rank in range(accelerator.num_processes)]
    store.set(names[accelerator.process_index], "1")
    while not store.check(names):
        time.sleep(0.05)


def shared_evaluation(accelerator: Accelerator, batch_size: int | None = None) -> Shared:
    """Return how all ranks share an evaluation, in the precision of the run. `batch_size` None is the default."""
    from accelerate.utils import gather_object

    def gather(own: Any) -> list[Any]:
        wait_for_all(accelerator)
        return list(gather_object([own]))

    precision = {"no": "fp32"}.get(accelerator.mixed_precision, accelerator.mixed_precision)
    if accelerator.num_processes == 1:
        return Shared(precision=precision, batch_size=batch_size)
    return Shared(accelerator.process_index, accelerator.num_processes, precision, gather, batch_size)


def rng_states(accelerator: Accelerator) -> list[RngState]:
    """Return the generator states of all ranks in order. All ranks must call it."""
    from accelerate.utils import gather_object

    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    own = {"cpu": torch.get_rng_state(), "cuda": cuda}
    return list(gather_object([own])) if accelerator.num_processes > 1 else [own]


def set_rng_state(states: Sequence[RngState], rank: int, seed: int) -> None:
    """Restore the generator state of this rank. If the run had fewer ranks, seed the generator with `seed` instead."""
    if rank >= len(states):
        torch.manual_seed(seed)
        return
    torch.set_rng_state(states[rank]["cpu"])
    if states[rank]["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states[rank]["cuda"])
