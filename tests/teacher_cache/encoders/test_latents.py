"""Latents of Stable Diffusion and of its autoencoder: they equal the library's."""

import numpy as np
import torch

from teacher_cache import open_encoder
from tests.teacher_cache.encoders.tiny_encoders import PICTURES, PROMPTS, digest, images, opened


def test_the_latent_has_the_settings_of_the_paper_and_equals_the_librarys(home):
    from diffusers import StableDiffusionImg2ImgPipeline

    encoder = open_encoder(f"sd-latent:{home}/sd")
    assert {name: encoder.spec[name] for name in ("steps", "strength", "guidance", "size", "dimension")} == {
        "steps": 20,
        "strength": 0.75,
        "guidance": 7.5,
        "size": 128,
        "dimension": 1024,
    }
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(home / "sd")
    seed = encoder.prepare(PICTURES[1], PROMPTS[1])[2]
    latent = pipeline(
        PROMPTS[1],
        images()[1].resize((128, 128)),
        strength=0.75,
        guidance_scale=7.5,
        num_inference_steps=20,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
    ).images
    assert np.allclose(encoder.encode(PICTURES, PROMPTS)[1], latent.flatten(), atol=1e-3)


def test_the_latent_depends_on_picture_and_prompt(home):
    encoder = opened("sd", home)
    features = encoder.encode([PICTURES[0], PICTURES[0], PICTURES[1]], ["a", "b", "a"])
    assert len({encoder.prepare(*pair)[2] for pair in zip(PICTURES[:2] * 2, "aabb", strict=True)}) == 4
    assert min(np.abs(features[0] - features[1]).max(), np.abs(features[0] - features[2]).max()) > 0.1


def test_the_autoencoders_latent_equals_the_librarys_and_its_own_folder_has_the_same_key(home):
    from diffusers import AutoencoderKL, StableDiffusionImg2ImgPipeline

    vae = AutoencoderKL.from_pretrained(home / "sd" / "vae")
    processor = StableDiffusionImg2ImgPipeline.from_pretrained(home / "sd").image_processor
    pixels = processor.preprocess([image.resize((64, 64)) for image in images()])
    with torch.inference_mode():
        expected = vae.encode(pixels).latent_dist.mean.flatten(1) * vae.config.scaling_factor
    assert np.allclose(opened("vae", home).encode(PICTURES, PROMPTS), expected, atol=1e-5)
    assert digest(open_encoder(f"vae-latent:{home}/sd/vae?size=64")) == digest(opened("vae", home))
