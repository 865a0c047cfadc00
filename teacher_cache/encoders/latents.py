"""Latents as features: Stable Diffusion's image-to-image latent, which the paper uses, and that of its autoencoder.

A latent depends on the picture and the prompt, not on the batch: both seed the random generator of its noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from teacher_cache.encoders.model_encoder import ModelEncoder
from teacher_cache.encoders.model_types import Autoencoder, ImageToImagePipeline
from teacher_cache.errors import SpecError
from teacher_cache.format.pixels import open_picture
from teacher_cache.keys import seed_of, sha256
from teacher_cache.registry.packages import import_package, quiet_transformers
from teacher_cache.registry.pretrained import DIFFUSERS, TRANSFORMERS, Checkpoint, brief, find_checkpoint
from teacher_cache.registry.specs import Spec
from teacher_cache.registry.torch_models import quiet_diffusers

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

SD_FILES = (
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/*",
)
SD_WEIGHTS = {"unet/": DIFFUSERS, "vae/": DIFFUSERS, "text_encoder/": TRANSFORMERS}


class StableDiffusionLatent(ModelEncoder[ImageToImagePipeline, "tuple[Image, str, int]"]):
    """`sd-latent:MODEL[?steps=20&strength=0.75&guidance=7.5&size=128&revision=R]`: the flattened final latent of
    image-to-image on the resized picture and its prompt (dimension 1,024 at 128 pixels)."""

    batch_sizes: ClassVar[Mapping[str, int]] = {"cpu": 8, "cuda": 64}
    allows_fp16 = False  # rounding errors add up over 15 steps

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, {"steps": 20, "strength": 0.75, "guidance": 7.5, "size": 128, "revision": ""})
        steps, strength = self._options["steps"], self._options["strength"]
        if not 0 < strength <= 1 or int(steps * strength) < 1:
            raise SpecError(
                f"{spec.text}: expected 0 < strength <= 1 and steps * strength >= 1, found strength {strength} and "
                f"{steps} steps"
            )
        self._package = _diffusers("sd-latent")
        self._checkpoint = find_checkpoint(spec, SD_FILES, SD_WEIGHTS, revision=self._options["revision"])
        self.dimension = _latent_dimension(spec, self._checkpoint.within("vae"), self._options["size"])
        settings = {name: self._options[name] for name in ("steps", "strength", "guidance", "size")}
        self.spec = self._full_spec(
            {
                "kind": "sd-latent",
                "checkpoint_sha256": self._checkpoint.digest,
                "resize": "bicubic",
                **settings,
                "seed": "sha256(picture, prompt)",
                "pooling": "flattened",
            }
        )

    def _load(self) -> ImageToImagePipeline:
        import torch

        try:
            with quiet_transformers(), quiet_diffusers(self._package):
                pipeline = self._package.StableDiffusionImg2ImgPipeline.from_pretrained(
                    self._checkpoint.folder, safety_checker=None, feature_extractor=None, image_encoder=None
                )
        except (OSError, ValueError, TypeError) as error:
            raise SpecError(f"{self._text}: no Stable Diffusion in {self._checkpoint.folder}: {brief(error)}") from None
        pipeline.set_progress_bar_config(disable=True)
        loaded: ImageToImagePipeline = pipeline.to(self.device, torch.float32)
        return loaded

    def prepare(self, picture: bytes, prompt: str) -> tuple[Image, str, int]:
        """Return the resized picture (S, S), its prompt, and the seed of its noise."""
        seed = seed_of(sha256(f"{sha256(picture)}\n{prompt}".encode()))
        return _resized(picture, self._options["size"]), prompt, seed

    def _forward(self, prepared: Sequence[tuple[Image, str, int]]) -> Tensor:
        import torch

        pictures, prompts, seeds = zip(*prepared, strict=True)
        latents = self._model(
            prompt=list(prompts),
            image=list(pictures),
            strength=self._options["strength"],
            guidance_scale=self._options["guidance"],
            num_inference_steps=self._options["steps"],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],  # on the CPU, whatever the device
            output_type="latent",
        ).images  # (B, C, S/8, S/8)
        return latents.flatten(1)


class AutoencoderLatent(ModelEncoder[Autoencoder, np.ndarray]):
    """`vae-latent:MODEL[?size=128&revision=R]`: the flattened mean of the latent distribution that an AutoencoderKL
    computes for the resized picture, scaled as for its diffusion model. MODEL is an autoencoder, or a pipeline whose
    folder `vae` contains one."""

    batch_sizes: ClassVar[Mapping[str, int]] = {"cpu": 16, "cuda": 128}
    allows_fp16 = False  # many autoencoders overflow in fp16

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, {"size": 128, "revision": ""})
        self._package = _diffusers("vae-latent")
        self._checkpoint = _find_autoencoder(spec, self._options["revision"])
        self.dimension = _latent_dimension(spec, self._checkpoint, self._options["size"])
        self.spec = self._full_spec(
            {
                "kind": "vae-latent",
                "checkpoint_sha256": self._checkpoint.digest,
                "resize": "bicubic",
                "size": self._options["size"],
                "pooling": "mean, scaled, flattened",
            }
        )

    def _load(self) -> Autoencoder:
        import torch

        try:
            model = self._package.AutoencoderKL.from_pretrained(self._checkpoint.folder)
        except (OSError, ValueError) as error:
            raise SpecError(f"{self._text}: no AutoencoderKL in {self._checkpoint.folder}: {brief(error)}") from None
        loaded: Autoencoder = model.eval().to(self.device, torch.float32)
        return loaded

    def prepare(self, picture: bytes, prompt: str) -> np.ndarray:
        """Return the pixels (3, S, S) float32, from -1 to 1. The prompt is ignored."""
        pixels = np.asarray(_resized(picture, self._options["size"]), np.float32) / 255
        return (2 * pixels - 1).transpose(2, 0, 1)

    def _forward(self, prepared: Sequence[np.ndarray]) -> Tensor:
        import torch

        pixels = torch.from_numpy(np.stack(prepared)).to(self.device)  # (B, 3, S, S)
        mean: Tensor = self._model.encode(pixels).latent_dist.mode()  # (B, C, S/8, S/8)
        config = self._model.config
        scaled: Tensor = (mean - (config.shift_factor or 0)) * config.scaling_factor
        return scaled.flatten(1)


def _find_autoencoder(spec: Spec, revision: str) -> Checkpoint:
    try:
        pipeline = find_checkpoint(spec, ["vae/config.json"], {"vae/": DIFFUSERS}, revision=revision)
        return pipeline.within("vae")
    except SpecError:
        return find_checkpoint(spec, ["config.json"], {"": DIFFUSERS}, revision=revision)


def _diffusers(kind: str) -> ModuleType:
    package: ModuleType = import_package("diffusers", distribution="diffusers", purpose=f"the encoder {kind}")
    return package


def _latent_dimension(spec: Spec, vae: Checkpoint, size: int) -> int:
    """Return the dimension of the flattened latent of a square picture, from the autoencoder's config.

    Raises SpecError if there is no such config, or if `size` (in pixels) is not divisible as the model needs it.
    """
    try:
        config = vae.json("config.json")
        factor = int(2 ** (len(config["block_out_channels"]) - 1))
        channels = int(config["latent_channels"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise SpecError(f"{spec.text}: no config of an AutoencoderKL in {vae.folder}: {error!r}") from None
    if size < factor or size % factor:
        raise SpecError(f"{spec.text}: option size expects a multiple of {factor} for this model, found {size}")
    return channels * (size // factor) ** 2


def _resized(picture: bytes, size: int) -> Image:
    from PIL.Image import Resampling

    return open_picture(picture).resize((size, size), Resampling.BICUBIC)
