"""Tiny models of every kind of encoder: their specs, and pictures and prompts to encode."""

import io

from PIL import Image

from teacher_cache import open_encoder, source_of_encoder
from tests import fakes

PICTURES = [fakes.png(row, 40) for row in range(5)]
PROMPTS = ["a cat", "a dog on a boat", "rain", "two red cars", "snow in the town at night"]
TOWERS = ("clip", "dinov2", "siglip", "vit", "vit-classifier")


SPECS = {
    "open_clip": "open_clip:tiny/{home}/weights-0.pt?config={home}/tiny.json",
    "clip": "transformers:{home}/clip?pool=projected",
    "dinov2": "transformers:{home}/dinov2?pool=mean",
    "siglip": "transformers:{home}/siglip?pool=pooled",
    "vit": "transformers:{home}/vit?pool=cls",
    "sd": "sd-latent:{home}/sd?steps=4",
    "vae": "vae-latent:{home}/sd?size=64",
    "text": "text:{home}/minilm?tokens=16",
}


def opened(name, home, options=""):
    """Open an encoder of SPECS with the models in `home`."""
    return open_encoder(SPECS[name].format(home=home) + options)


def images():
    """Return PICTURES as PIL images."""
    return [Image.open(io.BytesIO(picture)).convert("RGB") for picture in PICTURES]


def digest(encoder):
    """Return the digest of an encoder's record in the cache."""
    return source_of_encoder(encoder).digest
