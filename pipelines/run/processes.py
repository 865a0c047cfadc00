"""The processes that a run is trained by, as accelerate finds them: one, DDP's or FSDP's.

A run that some launcher started in several trains as one, or not at all.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from distill import Precision
from pipelines.run.request import RunRequest
from teacher_cache import ArmadaError


def start_processes(request: RunRequest) -> tuple[Any, Precision]:
    """The device and the processes, as an Accelerator, and their precision.

    Raises ArmadaError where a launcher's processes don't find each other: each would train by itself and overwrite the
    others' results.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import disable_fsdp_ram_efficient_loading

    from distill import is_sharded

    disable_fsdp_ram_efficient_loading()  # the launcher's default: all ranks but the first would load no weights
    on_cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    precision = _precision("bf16" if request.base_precision == "bf16" else request.precision, on_cpu)
    AcceleratorState._reset_state()  # an earlier run of this process may have had another precision
    accelerator = Accelerator(
        cpu=on_cpu,  # else ranks on the CPU go unseen
        mixed_precision=precision.mixed,
        log_with=list(request.track) or None,
        project_dir=request.out,
        dynamo_plugin=_compiler(request),
    )
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise ArmadaError(
            f"expected {started} processes, as the launcher says, found {accelerator.num_processes}; "
            "start them by: python -m torch.distributed.run --nproc_per_node N -m pipelines.cli train ..."
        )
    kind = str(accelerator.distributed_type.value)
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP"):
        raise ArmadaError(f"expected one process, DDP or FSDP, found {kind}")
    if is_sharded(accelerator) and request.load_4bit:
        raise ArmadaError("--load-4bit: expected one process or DDP, found FSDP, which can't cut weights of four bits")
    if is_sharded(accelerator) and request.compile:
        raise ArmadaError("--compile: expected one process or DDP, found FSDP; leave it out")
    if is_sharded(accelerator) and precision.used == "fp16":
        raise ArmadaError("--precision fp16: expected one process or DDP, found FSDP; use bf16 or fp32")
    if request.track:
        accelerator.init_trackers("trackers")
    return accelerator, precision


def _compiler(request: RunRequest) -> Any:
    """The plugin by which accelerate compiles the student, once for batches of all lengths; None to compile nothing."""
    from accelerate.utils import TorchDynamoPlugin

    if not request.compile:
        return None
    compilers = (os.environ.get("CXX") or "g++", "c++", "clang++")
    if not any(map(shutil.which, compilers)):
        raise ArmadaError(f"--compile: expected a C++ compiler ({', '.join(compilers)}), found none; install g++")
    return TorchDynamoPlugin(backend="inductor", dynamic=True)


def _precision(requested: str, on_cpu: bool) -> Precision:
    """The precision of all processes: where it is measured, that of the first."""
    from distill import choose_precision

    if requested != "auto" or not on_cpu or "RANK" not in os.environ or os.environ.get("WORLD_SIZE", "1") == "1":
        return choose_precision(requested, on_cpu)
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    found = [choose_precision(requested, on_cpu) if PartialState(cpu=True).is_main_process else None]
    broadcast_object_list(found)
    assert found[0] is not None  # the first process has chosen
    return found[0]
