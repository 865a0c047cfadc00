"""What the encoders that run a model share: device, batch size, precision, unit norm, and encoding in two steps.

`prepare` decodes and resizes one picture, on any thread; `embed` runs the model, on one thread. Neither the device nor
the batch size is part of the spec. If a batch does not fit into the memory, its size is halved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from teacher_cache.errors import SpecError
from teacher_cache.registry.specs import Spec
from teacher_cache.registry.torch_models import choose_device, run_in_batches

if TYPE_CHECKING:
    from torch import Tensor

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
OPTIONS = {"device": "", "batch": 0, "precision": PRECISIONS, "unit_norm": False}


Model = TypeVar("Model")  # what `_load` returns
Prepared = TypeVar("Prepared")  # one picture and its prompt, as `embed` takes them


class ModelEncoder(ABC, Generic[Model, Prepared]):
    """An `Encoder` whose subclasses define `spec`, `dimension` and three steps: `_load`, `prepare` and `_forward`.

    Every subclass has these options: device (default: cuda if a GPU is available), batch (pictures per batch),
    precision (auto is fp16 autocast on CUDA if `allows_fp16`, else fp32; part of the spec if given) and unit_norm.
    """

    spec: Mapping[str, Any]
    dimension: int
    batch_sizes: ClassVar[Mapping[str, int]] = {"cpu": 32, "cuda": 256}
    allows_fp16: ClassVar[bool] = True  # whether fp16 changes a feature only by its rounding

    def __init__(self, spec: Spec, own: Mapping[str, Any]) -> None:
        self._text = spec.text
        self._options = spec.options({**OPTIONS, **own})
        if self._options["batch"] < 0:
            raise SpecError(f"{spec.text}: option batch expects a number of pictures, found {self._options['batch']}")
        if self._options["device"]:
            choose_device(self._options["device"], f"{spec.text}: ")  # now, and not after the pictures are paid for

    def _full_spec(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the subclass's own part of the spec with what the shared options add to it."""
        requested = self._options["precision"]
        precision = {} if requested == "auto" else {"precision": requested}
        return {**own, **precision, "unit_norm": self._options["unit_norm"], "dimension": self.dimension}

    @abstractmethod
    def _load(self) -> Model:
        """Return the model, in evaluation mode, on `self.device`."""

    @abstractmethod
    def prepare(self, picture: bytes, prompt: str) -> Prepared:
        """Return the input of `embed` for one picture and its prompt. Safe on any thread."""

    @abstractmethod
    def _forward(self, prepared: Sequence[Prepared]) -> Tensor:
        """Return the features (B, dimension) of a batch of B results of `prepare`."""

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        """Return the features (B, dimension) float32 of B pictures and their prompts."""
        return self.embed([self.prepare(*pair) for pair in zip(pictures, prompts, strict=True)])

    def embed(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """Return the features (B, dimension) float32 of B results of `prepare`.

        Raises ArmadaError if not even one picture fits into the device's memory.
        """
        _ = self._model  # load the weights: a smaller batch would not help if they do not fit
        batches, self.batch_size = run_in_batches(
            self._run, prepared, self.batch_size, spec=self._text, device=self.device, remedy="another device="
        )
        features = np.concatenate(batches)
        return unit_norm(features) if self._options["unit_norm"] else features

    def _run(self, prepared: Sequence[Prepared]) -> np.ndarray:
        import torch

        with torch.inference_mode(), self._autocast():
            features: np.ndarray = self._forward(prepared).float().cpu().numpy()
        return features

    @cached_property
    def device(self) -> str:
        """The requested device, or the best one of this machine."""
        return choose_device(self._options["device"])

    @cached_property
    def batch_size(self) -> int:
        """Pictures per batch; reduced after a batch did not fit into the memory."""
        kind = self.device.partition(":")[0]
        return self._options["batch"] or self.batch_sizes.get(kind, self.batch_sizes["cpu"])

    @cached_property
    def _model(self) -> Model:
        return self._load()

    def _autocast(self) -> AbstractContextManager[object]:
        import torch

        kind, requested = self.device.partition(":")[0], self._options["precision"]
        name = ("fp16" if self.allows_fp16 and kind == "cuda" else "fp32") if requested == "auto" else requested
        if name == "fp32":
            return nullcontext()
        return torch.autocast(kind, dtype={"fp16": torch.float16, "bf16": torch.bfloat16}[name])


def unit_norm(features: np.ndarray) -> np.ndarray:
    """Divide each row of (B, L) by its Euclidean norm. A row of zeros stays unchanged; it is refused later."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    result: np.ndarray = features / np.where(lengths == 0, 1, lengths)
    return result
