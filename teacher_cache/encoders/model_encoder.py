"""What the encoders that run a model share: device, batch, precision, unit norm, and an encoding in two halves.

`prepare` decodes and resizes one picture, on any thread; `embed` runs the model, on one. Neither the device nor the
batch is in a spec, and a batch that doesn't fit the memory is halved and goes on.
"""

from __future__ import annotations

import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from teacher_cache.errors import ArmadaError, SpecError
from teacher_cache.registry.specs import Spec

PRECISIONS = ("auto", "fp32", "fp16", "bf16")
OPTIONS = {"device": "", "batch": 0, "precision": PRECISIONS, "unit_norm": False}


class ModelEncoder(ABC):
    """An `Encoder` whose subclass gives `spec`, `dimension` and three steps: `_load`, `prepare`, `_forward`.

    Every one takes the options device (cuda where there is one), batch (pictures), precision (auto: fp16 autocast on
    CUDA, if `half`, else fp32; stated in the spec where given) and unit_norm.
    """

    spec: Mapping[str, Any]
    dimension: int
    batches: ClassVar[Mapping[str, int]] = {"cpu": 32, "cuda": 256}
    half: ClassVar[bool] = True  # does fp16 change a feature by no more than its rounding?

    def __init__(self, spec: Spec, own: Mapping[str, Any]) -> None:
        self._text = spec.text
        self._options = spec.options({**OPTIONS, **own})
        if self._options["batch"] < 0:
            raise SpecError(f"{spec.text}: option batch expects a number of pictures, found {self._options['batch']}")
        if self._options["device"]:
            import torch

            try:
                torch.device(self._options["device"])
            except RuntimeError as error:
                raise SpecError(f"{spec.text}: option device: {str(error).splitlines()[0]}") from None

    def _stated(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The spec: these facts and what the shared options add to them."""
        given = self._options["precision"]
        precision = {} if given == "auto" else {"precision": given}
        return {**facts, **precision, "unit_norm": self._options["unit_norm"], "dimension": self.dimension}

    @abstractmethod
    def _load(self) -> Any:
        """The model, in evaluation mode, on `self.device`."""

    @abstractmethod
    def prepare(self, picture: bytes, prompt: str) -> Any:
        """One picture and its prompt as `embed` takes them. Safe on any thread."""

    @abstractmethod
    def _forward(self, prepared: Sequence[Any]) -> Any:
        """The features of a batch, a tensor (B, dimension)."""

    def encode(self, pictures: Sequence[bytes], prompts: Sequence[str]) -> np.ndarray:
        """(B, dimension) float32."""
        return self.embed([self.prepare(*pair) for pair in zip(pictures, prompts, strict=True)])

    def embed(self, prepared: Sequence[Any]) -> np.ndarray:
        """(B, dimension) float32 of what `prepare` gave. Raises ArmadaError where not one picture fits the memory."""
        parts: list[np.ndarray] = []
        start = 0
        while start < len(prepared):
            part = prepared[start : start + self.batch_size]
            features = self._attempt(part)
            if features is None:
                self._halve(len(part))
            else:
                parts.append(features)
                start += len(part)
        features = np.concatenate(parts)
        return unit_norm(features) if self._options["unit_norm"] else features

    @cached_property
    def device(self) -> str:
        """The device that was asked for, or the best one here."""
        import torch

        return self._options["device"] or ("cuda" if torch.cuda.is_available() else "cpu")

    @cached_property
    def batch_size(self) -> int:
        """Pictures a batch; smaller from the moment that one didn't fit."""
        kind = self.device.partition(":")[0]
        return self._options["batch"] or self.batches.get(kind, self.batches["cpu"])

    @cached_property
    def _model(self) -> Any:
        return self._load()

    def _attempt(self, part: Sequence[Any]) -> np.ndarray | None:
        """The features of a batch, None where the device's memory is too small for it."""
        import torch

        _ = self._model  # weights that don't fit are no reason for a smaller batch
        try:
            with torch.inference_mode(), self._autocast():
                features: np.ndarray = self._forward(part).float().cpu().numpy()
            return features
        except torch.OutOfMemoryError:
            pass  # leave the block first: the traceback holds the tensors
        torch.cuda.empty_cache()
        return None

    def _halve(self, tried: int) -> None:
        if tried == 1:
            raise ArmadaError(f"{self._text}: {self.device} has no memory for one picture; try another device=")
        self.batch_size = tried // 2
        print(f"{self._text}: out of memory at {tried} pictures, going on with {self.batch_size}", file=sys.stderr)

    def _autocast(self) -> Any:
        import torch

        kind, given = self.device.partition(":")[0], self._options["precision"]
        name = ("fp16" if self.half and kind == "cuda" else "fp32") if given == "auto" else given
        if name == "fp32":
            return nullcontext()
        return torch.autocast(kind, dtype={"fp16": torch.float16, "bf16": torch.bfloat16}[name])


def decode(picture: bytes) -> Any:
    """An encoded picture as a PIL image, RGB."""
    from PIL import Image

    return Image.open(io.BytesIO(picture)).convert("RGB")


def unit_norm(features: np.ndarray) -> np.ndarray:
    """Rows (B, L) divided by their length; a row of zeros stays one, and is refused later."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    result: np.ndarray = features / np.where(lengths == 0, 1, lengths)
    return result
