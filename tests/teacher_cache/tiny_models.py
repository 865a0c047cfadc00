"""Tiny models with random weights, saved in the formats of their libraries, for tests of the real adapters."""

from __future__ import annotations

import json
from pathlib import Path

import torch

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {**{name: VISION[name] for name in list(VISION)[:4]}, "vocab_size": 64, "max_position_embeddings": 16}
OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
}


def save_open_clip(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """Save a tiny CLIP; return the paths of its config and of its weights."""
    import open_clip

    config, weights = folder / "tiny.json", folder / f"weights-{seed}.pt"
    config.write_text(json.dumps(OPEN_CLIP))
    torch.manual_seed(seed)
    torch.save(open_clip.CLIP(**OPEN_CLIP).state_dict(), weights)
    return config, weights


def save_tower(folder: Path, kind: str, seed: int = 0) -> Path:
    """Save a tiny model and its image processor; return the folder. A `vit-classifier` has no pooler."""
    import transformers as hf

    torch.manual_seed(seed)
    square = {"height": 32, "width": 32}
    if kind == "clip":
        model = hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24))
        processor = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square)
    elif kind == "siglip":
        model = hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=VISION))
        processor = hf.SiglipImageProcessor(size=square)
    elif kind == "dinov2":
        model = hf.Dinov2Model(hf.Dinov2Config(**{k: v for k, v in VISION.items() if k != "intermediate_size"}))
        processor = hf.BitImageProcessor(size={"shortest_edge": 32}, crop_size=square)
    else:
        config = hf.ViTConfig(**VISION)
        model = hf.ViTForImageClassification(config) if kind == "vit-classifier" else hf.ViTModel(config)
        processor = hf.ViTImageProcessor(size=square)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_stable_diffusion(folder: Path) -> Path:
    """Save a tiny text-to-image pipeline; return the folder. As with the real Stable Diffusion, the latent of 128 x 128
    pixels has 1,024 numbers."""
    import diffusers
    import transformers as hf

    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
        sample_size=16,
    )
    vocabulary = [
        "<|startoftext|>",
        "<|endoftext|>",
        *"abcdefghijklmnopqrstuvwxyz ",
        *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    files = folder / "vocabulary"
    files.mkdir(parents=True)
    (files / "vocab.json").write_text(json.dumps({word: row for row, word in enumerate(vocabulary)}))
    (files / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = hf.CLIPTokenizer(str(files / "vocab.json"), str(files / "merges.txt"), model_max_length=16)
    text = hf.CLIPTextModel(hf.CLIPTextConfig(**TEXT, bos_token_id=0, eos_token_id=1))
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder
