"""The machine that a figure was measured on: processor, cores, memory, GPUs, and the versions that matter."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("armada-distill", "torch", "transformers", "diffusers", "open_clip_torch", "pyarrow", "numpy", "webdataset")
# What decides how fast bfloat16 is: without one of these a processor computes in float32 and converts.
_BF16 = ("avx512_bf16", "amx_bf16", "bf16")


def machine_facts() -> dict[str, Any]:
    """Return what is known of this machine, without its name or its users'."""
    import torch

    text = _read("/proc/cpuinfo")
    flags = set((re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE) or [""])[0].split())
    name = re.search(r"^(?:model name|Model)\s*:\s*(.*)$", text, re.MULTILINE)
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": name[1].strip() if name else platform.processor() or platform.machine(),
        "cores": allowed,
        "memory_gib": round(int(memory[1]) / (1 << 20), 1) if memory else None,
        "bf16_instructions": [flag for flag in _BF16 if flag in flags],
        "gpus": [
            f"{torch.cuda.get_device_name(one)}, {torch.cuda.get_device_properties(one).total_memory >> 30} GiB"
            for one in range(torch.cuda.device_count())
        ],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def machine_sentence(facts: dict[str, Any]) -> str:
    """Return the facts in one sentence."""
    gpus = "; ".join(facts["gpus"]) or "no GPU"
    bf16 = (
        f"bfloat16 by {', '.join(facts['bf16_instructions'])}"
        if facts["bf16_instructions"]
        else "no bfloat16 instructions"
    )
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {bf16}; {gpus}; {facts['system']}, "
        f"Python {facts['python']}; {versions}."
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"
