"""The types of the models that encoders load: the part of each library's class that an encoder calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class ConvolutionalModel(Protocol):
    """A classifier of efficientnet-lite-pytorch."""

    def extract_features(self, pixels: Tensor) -> Tensor:
        """Return the last convolution's activations (B, C, H, W) for pixels (B, 3, S, S)."""
        ...


class ImageTower(Protocol):
    """A CLIP model of open_clip."""

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Return the projected features (B, L) for pixels (B, 3, S, S)."""
        ...


class ModelOutput(Protocol):
    """The output of a transformers model. Vision towers add `pooler_output` or `image_embeds`."""

    last_hidden_state: Tensor  # (B, T, H)


class TransformersModel(Protocol):
    """A model of transformers without a task head."""

    def __call__(self, **inputs: Tensor) -> ModelOutput:
        """Run the model on tokens or pixels."""
        ...


class LatentOutput(Protocol):
    """The output of a diffusers pipeline for `output_type="latent"`."""

    images: Tensor  # (B, C, S/8, S/8)


class ImageToImagePipeline(Protocol):
    """Stable Diffusion's image-to-image pipeline of diffusers."""

    def __call__(self, **arguments: Any) -> LatentOutput:
        """Draw one latent per prompt and picture."""
        ...


class AutoencoderConfig(Protocol):
    """How a diffusion model shifts and scales the latents of its autoencoder."""

    scaling_factor: float
    shift_factor: float | None


class Autoencoder(Protocol):
    """An AutoencoderKL of diffusers."""

    config: AutoencoderConfig

    def encode(self, pixels: Tensor) -> Any:
        """Return an object whose `latent_dist` is the distribution of the latent (B, C, S/8, S/8)."""
        ...
