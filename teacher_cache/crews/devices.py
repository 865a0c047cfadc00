"""The teacher and the encoder of one worker, on a device of its own: worker 0 has cuda:0, worker 1 cuda:1, and so on.

If there are fewer GPUs than workers, several workers share one. An adapter that takes no option `device`, or for which
the user chose a device, is opened as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from teacher_cache.crews.messages import Setup
from teacher_cache.encoders import Encoder, open_encoder, source_of_encoder
from teacher_cache.encoders.model_encoder import ModelEncoder
from teacher_cache.errors import ArmadaError, SpecError
from teacher_cache.registry.specs import parse_spec
from teacher_cache.teachers import Teacher, open_teacher, source_of_teacher

Adapter = TypeVar("Adapter", Teacher, Encoder)


def open_adapters(setup: Setup) -> tuple[Teacher, Encoder]:
    """Return a worker's teacher and encoder.

    Raises ArmadaError if they are others here than the coordinator's: of another version, or with other weights.
    """
    teacher = _open(open_teacher, setup.teacher, setup.slot)
    encoder = _open(open_encoder, setup.encoder, setup.slot)
    if setup.concurrency is not None:
        teacher.concurrency = setup.concurrency  # type: ignore[attr-defined]
    pairs = (
        ("teacher", setup.teacher, source_of_teacher(teacher).digest, setup.teacher_digest),
        ("encoder", setup.encoder, source_of_encoder(encoder).digest, setup.encoder_digest),
    )
    for noun, text, found, expected in pairs:
        if found != expected:
            raise ArmadaError(
                f"{text}: the {noun} of this worker has the digest {found[:16]}, expected {expected[:16]} as on the "
                "coordinator's machine; install the same packages and weights on all machines"
            )
    return teacher, encoder


def on_device(text: str, device: str) -> str:
    """Return a spec's text with an option `device`; as it is if it has one."""
    return text if "device" in parse_spec(text).params else f"{text}{'&' if '?' in text else '?'}device={device}"


def _open(open_adapter: Callable[[str], Adapter], text: str, slot: int) -> Adapter:
    adapter = open_adapter(text)
    if parse_spec(text).kind != "diffusers" and not isinstance(adapter, ModelEncoder) and "torch" not in sys.modules:
        return adapter  # no model of its own runs here
    import torch

    count = torch.cuda.device_count()
    if not count or on_device(text, "") == text:
        return adapter
    try:
        placed = open_adapter(on_device(text, f"cuda:{slot % count}"))
    except SpecError:  # it knows no device
        return adapter
    if placed.spec != adapter.spec:  # its own idea of a device, which decides a key
        return adapter
    placed.text = text  # type: ignore[attr-defined]
    return placed
