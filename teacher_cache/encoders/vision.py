"""Vision towers of transformers (CLIP, SigLIP, DINOv2, DINOv3, ViT, DeiT), each with its checkpoint's image processor.

Every weight that a feature depends on comes from the checkpoint: a missing weight is an error, and is never random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from teacher_cache.encoders.model_encoder import ModelEncoder
from teacher_cache.encoders.model_types import TransformersModel
from teacher_cache.errors import SpecError
from teacher_cache.format.pixels import open_picture
from teacher_cache.registry.packages import import_package
from teacher_cache.registry.pretrained import TRANSFORMERS, MissingWeightsError, brief, find_checkpoint, load_pretrained
from teacher_cache.registry.specs import Spec

if TYPE_CHECKING:
    from torch import Tensor

POOLS = ("pooled", "cls", "mean", "projected")
FILES = ("config.json", "preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class Tower:
    """A model class of transformers, the number of tokens before the patches (the first is CLS), and the prefix of the
    pooler's weights."""

    model: str
    prefix_tokens: int = 1
    pooler: str = "pooler."


TOWERS = {
    "clip": Tower("CLIPVisionModel"),
    "deit": Tower("DeiTModel", prefix_tokens=2),
    "dinov2": Tower("Dinov2Model"),
    "dinov2_with_registers": Tower("Dinov2WithRegistersModel"),  # its config adds the number of register tokens
    "dinov3_vit": Tower("DINOv3ViTModel"),
    "siglip": Tower("SiglipVisionModel", prefix_tokens=0, pooler="head."),
    "vit": Tower("ViTModel"),
}


class VisionTower(ModelEncoder[TransformersModel, "Tensor"]):
    """`transformers:MODEL[?pool=pooled|cls|mean|projected&revision=R]`; MODEL is a folder or a hub id.

    `pooled` is the model's pooler output, `cls` the last hidden state of the CLS token, `mean` the mean of the last
    hidden states of the patches, and `projected` CLIP's projection into the space that it shares with texts.
    """

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, {"pool": POOLS, "revision": ""})
        self._spec, self._pool = spec, self._options["pool"]
        self._package = import_package("transformers", distribution="transformers", purpose="the encoder transformers")
        self._checkpoint = find_checkpoint(spec, FILES, {"": TRANSFORMERS}, revision=self._options["revision"])
        self._config, self._tower = _tower(spec, self._checkpoint.folder, self._package)
        self._prefix_tokens = self._tower.prefix_tokens + getattr(self._config, "num_register_tokens", 0)
        pools = [pool for pool in POOLS if _has_pool(self._config, self._tower, pool)]
        if self._pool not in pools:
            expected = f"expected pool={'|'.join(pools)}"
            raise SpecError(f"{spec.text}: {self._config.model_type} has no pool={self._pool}; {expected}")
        try:
            self._processor = self._package.AutoImageProcessor.from_pretrained(self._checkpoint.folder)
        except (OSError, ValueError, ImportError) as error:
            raise SpecError(f"{spec.text}: no image processor in {self._checkpoint.folder}: {brief(error)}") from None
        widths = {"projected": "projection_dim", "pooled": "pooler_output_size"}
        self.dimension = getattr(self._config, widths.get(self._pool, ""), None) or self._config.hidden_size
        self.spec = self._full_spec(
            {
                "kind": "transformers",
                "checkpoint_sha256": self._checkpoint.digest,  # of weights, config and preprocessing
                "preprocessing": type(self._processor).__name__,  # tells torchvision's resizing from PIL's
                "pooling": self._pool,
            }
        )

    def _load(self) -> TransformersModel:
        projected = self._pool == "projected"
        kind = getattr(self._package, "CLIPVisionModelWithProjection" if projected else self._tower.model)
        unused = "" if self._pool == "pooled" else self._tower.pooler
        try:
            model = load_pretrained(self._spec, kind, self._checkpoint, unused=unused, config=self._config)
        except MissingWeightsError as error:
            if not all(name.startswith(self._tower.pooler) for name in error.absent):
                raise
            instead = "cls" if self._tower.prefix_tokens else "mean"
            raise SpecError(
                f"{self._spec.text}: {self._checkpoint.folder} has no weights for the pooler ({error.absent[0]}), "
                f"which would be random; use pool={instead}"
            ) from None
        loaded: TransformersModel = model.to(self.device)
        return loaded

    def prepare(self, picture: bytes, prompt: str) -> Tensor:
        """Return the pixels (3, S, S) that the checkpoint's image processor computes. The prompt is ignored."""
        pixels: Tensor = self._processor(images=open_picture(picture), return_tensors="pt")["pixel_values"][0]
        return pixels

    def _forward(self, prepared: Sequence[Tensor]) -> Tensor:
        import torch

        output = self._model(pixel_values=torch.stack(list(prepared)).to(self.device))
        pooled = {"projected": "image_embeds", "pooled": "pooler_output"}.get(self._pool)
        states: Tensor = getattr(output, pooled or "last_hidden_state")  # (B, H), or (B, T, H) if it is not pooled
        if pooled:
            return states
        return states[:, 0] if self._pool == "cls" else states[:, self._prefix_tokens :].float().mean(1)


def _tower(spec: Spec, folder: Path, package: ModuleType) -> tuple[Any, Tower]:
    """Return the vision tower's config, with the width of the projection that follows it, and its entry of TOWERS.

    Raises SpecError if there is no readable config or it is not that of a known tower.
    """
    try:
        config = package.AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise SpecError(f"{spec.text}: no readable config.json in {folder}: {brief(error)}") from None
    vision = getattr(config, "vision_config", config)
    if vision is not config and hasattr(config, "projection_dim"):
        vision.projection_dim = config.projection_dim
    name = vision.model_type.removesuffix("_vision_model")
    if name not in TOWERS:
        raise SpecError(f"{spec.text}: expected one of {', '.join(sorted(TOWERS))}, found {vision.model_type}")
    return vision, TOWERS[name]


def _has_pool(config: Any, tower: Tower, pool: str) -> bool:
    if pool == "pooled":
        return bool(getattr(config, "vision_use_head", True))
    if pool == "cls":
        return tower.prefix_tokens > 0
    return pool == "mean" or tower.model == "CLIPVisionModel"
