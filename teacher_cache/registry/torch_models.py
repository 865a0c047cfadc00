"""What the adapters that run a torch model share: the device, batches that fit into its memory, the mean over tokens.

torch is imported when a function is called, not with this file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from teacher_cache.errors import ArmadaError, SpecError

if TYPE_CHECKING:
    from torch import Tensor

_Item = TypeVar("_Item")
_Output = TypeVar("_Output")


def choose_device(requested: str, where: str = "") -> str:
    """Return the requested device; if that is empty, cuda where a GPU is available and cpu elsewhere.

    Raise SpecError, which begins with `where`, if this machine does not have the device.
    """
    import torch

    if not requested:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise SpecError(f"{where}option device: {str(error).splitlines()[0]}") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= there.get(device.type, 1):
        expected = f"{where}option device: expected one of this machine, which has {there[device.type]} of this type"
        raise SpecError(f"{expected}, found {requested!r}")
    return requested


def run_in_batches(
    run: Callable[[Sequence[_Item]], _Output],
    items: Sequence[_Item],
    batch_size: int,
    *,
    spec: str,
    device: str,
    remedy: str,
) -> tuple[list[_Output], int]:
    """Run a model on batches of items; halve the batch size whenever a batch does not fit into the device's memory.

    Args:
        run: The model, from a batch of items to its output. Load the weights before: a smaller batch would not help
            if they do not fit.
        items: One item per picture.
        batch_size: The size to begin with.
        spec: The adapter's spec, for messages.
        device: The name of the device, for messages.
        remedy: What to do if not even one picture fits, for the error message.

    Returns:
        The output of each batch, in order, and the batch size that fitted.

    Raises ArmadaError if a batch of one picture does not fit.
    """
    import torch

    outputs: list[_Output] = []
    start = 0
    while start < len(items):
        batch = items[start : start + batch_size]
        try:
            outputs.append(run(batch))
            start += len(batch)
            continue
        except torch.OutOfMemoryError:
            pass  # leave the block first: the traceback keeps the batch's tensors in memory
        torch.cuda.empty_cache()
        if len(batch) == 1:
            raise ArmadaError(f"{spec}: {device} has no memory for one picture; try {remedy}")
        batch_size = len(batch) // 2
        print(
            f"warning: {spec}: out of memory with a batch of {len(batch)} pictures; going on with batches of "
            f"{batch_size}",
            file=sys.stderr,
        )
    return outputs, batch_size


@contextmanager
def quiet_diffusers(diffusers: ModuleType) -> Iterator[None]:
    """Load a pipeline without the progress bar of diffusers."""
    diffusers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers.utils.logging.enable_progress_bar()


def mean_over_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean (B, H) of the states (B, T, H) at the positions where the attention mask (B, T) is 1."""
    weights = mask.unsqueeze(-1)
    return (states * weights).sum(1) / weights.sum(1)
