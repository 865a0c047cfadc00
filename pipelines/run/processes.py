"""The processes that a run is trained by, as accelerate finds them: one, DDP's or FSDP's.

A run that some launcher started in several trains as one, or not at all.
"""

from __future__ import annotations

import os
from typing import Any

from pipelines.run.request import RunRequest
from teacher_cache import ArmadaError


def start_processes(request: RunRequest) -> Any:
    """The device, the precision and the processes, as an Accelerator. Raises ArmadaError where a launcher's processes
    don't find each other: each would train by itself and overwrite the others' results."""
    import torch
    from accelerate import Accelerator
    from accelerate.utils import disable_fsdp_ram_efficient_loading

    from distill import has_bf16, is_sharded

    disable_fsdp_ram_efficient_loading()  # the launcher's default: all ranks but the first would load no weights
    accelerator = Accelerator(
        cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),  # else ranks on the CPU go unseen
        mixed_precision="bf16" if has_bf16() else "no",
        log_with=list(request.track) or None,
        project_dir=request.out,
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
    if request.track:
        accelerator.init_trackers("trackers")
    return accelerator
