"""The precision of training: a GPU's is known, a processor's is measured once and kept in the user's cache folder.

A processor's flags say little: one that has instructions for bfloat16 may need half as long again with them as in
float32, or half as long.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from distill.students.precision import has_bf16
from teacher_cache import ArmadaError, atomic_write, user_folder

FASTER = 0.9  # bfloat16 is chosen if a step takes less than this share of the time in float32
_TOKENS, _WIDTH, _REPEATS = 256, 384, 3  # a layer of MiniLM on 8 rows of 32 tokens


@dataclass(frozen=True)
class Precision:
    """The precision of a run, and why it was chosen."""

    used: str  # bf16, fp16 or fp32
    reason: str

    @property
    def mixed(self) -> str:
        """Its name in accelerate."""
        return {"fp32": "no"}.get(self.used, self.used)


@dataclass(frozen=True)
class Speed:
    """The time of one training step of a layer on this processor."""

    processor: str
    torch: str
    fp32_ms: float
    bf16_ms: float

    @property
    def prefers_bf16(self) -> bool:
        """True if bfloat16 is clearly faster."""
        return self.bf16_ms < FASTER * self.fp32_ms


def choose_precision(requested: str = "auto", on_cpu: bool | None = None) -> Precision:
    """Return the precision to train in: the requested one, or with "auto" what the GPU computes in half precision, and
    on a processor the faster of float32 and bfloat16. A GPU that would emulate bfloat16, as those before Ampere do, has
    none.

    `on_cpu` is by default whether there is no GPU. ARMADA_PRECISION replaces "auto", so that different machines compute
    alike. Raise ArmadaError if the device can't compute in what is requested.
    """
    everywhere = os.environ.get("ARMADA_PRECISION", "")
    if requested == "auto" and everywhere:
        if everywhere not in ("bf16", "fp16", "fp32"):
            raise ArmadaError(f"ARMADA_PRECISION: expected bf16, fp16 or fp32, found {everywhere!r}")
        return replace(choose_precision(everywhere, on_cpu), reason="ARMADA_PRECISION")
    if on_cpu is None:
        on_cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    if requested == "fp16" and (on_cpu or not torch.cuda.is_available()):
        raise ArmadaError("--precision fp16: expected a CUDA GPU, found none; use bf16, fp32 or auto")
    if requested == "bf16" and torch.cuda.is_available() and not has_bf16():
        raise ArmadaError("--precision bf16: this GPU can't compute in bfloat16; use fp16, fp32 or auto")
    if requested != "auto":
        return Precision(requested, "--precision")
    if torch.cuda.is_available() and not on_cpu:
        found = has_bf16()
        return Precision("bf16" if found else "fp16", f"the GPU has {'' if found else 'no '}bfloat16")
    if not on_cpu:
        return Precision("fp32", "no CUDA GPU")
    speed = processor_speed()
    words = f"a step takes {speed.bf16_ms:.1f} ms in bf16 and {speed.fp32_ms:.1f} ms in fp32 on {speed.processor}"
    return Precision("bf16" if speed.prefers_bf16 else "fp32", words)


def processor_speed(folder: Path | None = None) -> Speed:
    """Return the speed of this processor; measured if it isn't kept in the folder (by default, the user's cache)."""
    name, version = processor_name(), str(torch.__version__)
    path = (folder or user_folder()) / "processor-speed.json"
    try:
        kept = [Speed(**entry) for entry in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError):
        kept = []
    for speed in kept:
        if (speed.processor, speed.torch) == (name, version):
            return speed
    speed = Speed(name, version, measure(None), measure(torch.bfloat16))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, json.dumps([asdict(one) for one in [*kept, speed]], allow_nan=False).encode())
    except OSError:
        pass  # a folder that can't be written: measured again by the next run
    return speed


def processor_name() -> str:
    """Return the processor's name, as the system gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def measure(kind: torch.dtype | None) -> float:
    """Return the milliseconds of a training step of one layer, by autocast to `kind`; the best of some repeats.

    The random generator is not changed.
    """
    with torch.random.fork_rng(devices=[]):
        layer = nn.Sequential(
            nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH), nn.LayerNorm(_WIDTH)
        )
        tokens = torch.randn(_TOKENS, _WIDTH)
    times = []
    for _ in range(1 + _REPEATS):
        started = time.perf_counter()
        with torch.autocast("cpu", kind or torch.bfloat16, enabled=kind is not None):
            loss = layer(tokens).square().mean()
        torch.autograd.backward(loss)
        times.append(time.perf_counter() - started)
    return 1000 * min(times[1:])
