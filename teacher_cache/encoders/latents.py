"""Latents as features: the paper's own (Stable Diffusion's image-to-image latent) and the autoencoder's alone.

A latent depends on picture and prompt, not on its batch: its noise comes from a generator of its own, seeded by both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from teacher_cache.encoders.model_encoder import ModelEncoder, decode
from teacher_cache.errors import SpecError
from teacher_cache.keys import seed_of, sha256
from teacher_cache.registry.packages import import_package, quiet_transformers
from teacher_cache.registry.pretrained import DIFFUSERS, TRANSFORMERS, Checkpoint, brief, find_checkpoint
from teacher_cache.registry.specs import Spec

SD_FILES = (
    "model_index.json",
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/*",
)
SD_WEIGHTS = {"unet/": DIFFUSERS, "vae/": DIFFUSERS, "text_encoder/": TRANSFORMERS}


class StableDiffusionLatent(ModelEncoder):
    """`sd-latent:MODEL[?steps=20&strength=0.75&guidance=7.5&size=128&revision=R]`: the picture, resized, goes through
    image-to-image with its row's prompt; the final latent, flattened (1,024 numbers at 128 pixels), is the feature."""

    batches: ClassVar[Mapping[str, int]] = {"cpu": 8, "cuda": 64}
    half = False  # 15 steps follow one another: fp16 is another feature

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, {"steps": 20, "strength": 0.75, "guidance": 7.5, "size": 128, "revision": ""})
        steps, strength = self._options["steps"], self._options["strength"]
        if not 0 < strength <= 1 or int(steps * strength) < 1:
            raise SpecError(f"{spec.text}: expected 0 < strength <= 1 and a step at least, found {strength} of {steps}")
        self._package = _diffusers("sd-latent")
        self._checkpoint = find_checkpoint(spec, SD_FILES, SD_WEIGHTS, revision=self._options["revision"])
        self.dimension = _latent_numbers(spec, self._checkpoint.within("vae"), self._options["size"])
        settings = {name: self._options[name] for name in ("steps", "strength", "guidance", "size")}
        self.spec = self._stated(
            {
                "kind": "sd-latent",
                "checkpoint_sha256": self._checkpoint.digest,
                "resize": "bicubic",
                **settings,
                "seed": "sha256(picture, prompt)",
                "pooling": "flattened",
            }
        )

    def _load(self) -> Any:
        import torch

        self._package.utils.logging.disable_progress_bar()
        try:
            with quiet_transformers():
                pipeline = self._package.StableDiffusionImg2ImgPipeline.from_pretrained(
                    self._checkpoint.folder, safety_checker=None, feature_extractor=None, image_encoder=None
                )
        except (OSError, ValueError, TypeError) as error:
            raise SpecError(f"{self._text}: no Stable Diffusion in {self._checkpoint.folder}: {brief(error)}") from None
        finally:
            self._package.utils.logging.enable_progress_bar()
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self.device, torch.float32)

    def prepare(self, picture: bytes, prompt: str) -> tuple[Any, str, int]:
        """The picture (S, S), its prompt, and the seed of its noise."""
        seed = seed_of(sha256(f"{sha256(picture)}\n{prompt}".encode()))
        return _resized(picture, self._options["size"]), prompt, seed

    def _forward(self, prepared: Sequence[tuple[Any, str, int]]) -> Any:
        import torch

        pictures, prompts, seeds = zip(*prepared, strict=True)
        latents = self._model(
            prompt=list(prompts),
            image=list(pictures),
            strength=self._options["strength"],
            guidance_scale=self._options["guidance"],
            num_inference_steps=self._options["steps"],
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],  # of the CPU, whatever the device
            output_type="latent",
        ).images  # (B, C, S/8, S/8)
        return latents.flatten(1)


class AutoencoderLatent(ModelEncoder):
    """`vae-latent:MODEL[?size=128&revision=R]`: the mean of the latent that an AutoencoderKL gives the resized picture,
    scaled as its diffusion model takes it, flattened. MODEL is the autoencoder or a pipeline with one in `vae`."""

    batches: ClassVar[Mapping[str, int]] = {"cpu": 16, "cuda": 128}
    half = False  # many autoencoders overflow in fp16

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec, {"size": 128, "revision": ""})
        self._package = _diffusers("vae-latent")
        self._checkpoint = _find_autoencoder(spec, self._options["revision"])
        self.dimension = _latent_numbers(spec, self._checkpoint, self._options["size"])
        self.spec = self._stated(
            {
                "kind": "vae-latent",
                "checkpoint_sha256": self._checkpoint.digest,
                "resize": "bicubic",
                "size": self._options["size"],
                "pooling": "mean, scaled, flattened",
            }
        )

    def _load(self) -> Any:
        import torch

        try:
            model = self._package.AutoencoderKL.from_pretrained(self._checkpoint.folder)
        except (OSError, ValueError) as error:
            raise SpecError(f"{self._text}: no AutoencoderKL in {self._checkpoint.folder}: {brief(error)}") from None
        return model.eval().to(self.device, torch.float32)

    def prepare(self, picture: bytes, prompt: str) -> np.ndarray:
        """Pixels (3, S, S) in -1..1, float32; the prompt is not looked at."""
        pixels = np.asarray(_resized(picture, self._options["size"]), np.float32) / 255
        return (2 * pixels - 1).transpose(2, 0, 1)

    def _forward(self, prepared: Sequence[np.ndarray]) -> Any:
        import torch

        pixels = torch.from_numpy(np.stack(prepared)).to(self.device)  # (B, 3, S, S)
        mean = self._model.encode(pixels).latent_dist.mode()  # (B, C, S/8, S/8)
        config = self._model.config
        return ((mean - (config.shift_factor or 0)) * config.scaling_factor).flatten(1)


def _find_autoencoder(spec: Spec, revision: str) -> Checkpoint:
    try:
        pipeline = find_checkpoint(spec, ["vae/config.json"], {"vae/": DIFFUSERS}, revision=revision)
        return pipeline.within("vae")
    except SpecError:
        return find_checkpoint(spec, ["config.json"], {"": DIFFUSERS}, revision=revision)


def _diffusers(kind: str) -> Any:
    return import_package("diffusers", distribution="diffusers", purpose=f"the encoder {kind}")


def _latent_numbers(spec: Spec, vae: Checkpoint, size: int) -> int:
    """The numbers in the latent of a picture of `size` pixels, from the autoencoder's config."""
    try:
        config = vae.json("config.json")
        factor = int(2 ** (len(config["block_out_channels"]) - 1))
        channels = int(config["latent_channels"])
    except (OSError, ValueError, KeyError) as error:
        raise SpecError(f"{spec.text}: no config of an AutoencoderKL in {vae.folder}: {error!r}") from None
    if size < factor or size % factor:
        raise SpecError(f"{spec.text}: option size expects a multiple of {factor} for this model, found {size}")
    return channels * (size // factor) ** 2


def _resized(picture: bytes, size: int) -> Any:
    from PIL import Image

    return decode(picture).resize((size, size), Image.Resampling.BICUBIC)
