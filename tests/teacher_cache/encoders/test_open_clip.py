"""The open_clip encoder: features equal the library's, and a tag determines preprocessing and activation."""

import json

import numpy as np
import pytest
import torch

from teacher_cache import SpecError, open_encoder
from tests.teacher_cache.encoders.tiny_encoders import PICTURES, PROMPTS, digest, images, opened


def test_open_clip_features_equal_those_of_the_library(home):
    import open_clip

    open_clip.add_model_config(home / "tiny.json")
    model, _, transform = open_clip.create_model_and_transforms("tiny", pretrained=str(home / "weights-0.pt"))
    with torch.inference_mode():
        expected = model.eval().encode_image(torch.stack([transform(image) for image in images()]))
    encoder = opened("open_clip", home)
    assert np.allclose(encoder.encode(PICTURES, PROMPTS), expected, atol=1e-5)
    assert encoder.spec["preprocessing"]["interpolation"] == "bicubic"


def test_an_open_clip_tag_determines_preprocessing_and_activation(home, monkeypatch):
    import open_clip

    monkeypatch.setattr(open_clip, "download_pretrained", lambda tag: home / "weights-0.pt")
    openai = open_encoder("open_clip:ViT-B-32/openai")
    assert (openai.dimension, openai.spec["quick_gelu"]) == (512, True)
    assert digest(openai) == digest(open_encoder("open_clip:ViT-B-32-quickgelu/openai"))
    assert open_encoder("open_clip:ViT-B-32/laion2b_s34b_b79k").spec["quick_gelu"] is False
    siglip = open_encoder("open_clip:ViT-B-16-SigLIP/webli").spec["preprocessing"]
    assert (siglip["mean"], siglip["resize_mode"]) == ((0.5, 0.5, 0.5), "squash")


def test_an_open_clip_config_may_define_the_preprocessing(home, tmp_path):
    facts = {"model_cfg": json.loads((home / "tiny.json").read_text()), "preprocess_cfg": {"resize_mode": "squash"}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(facts))
    encoder = open_encoder(f"open_clip:tiny/{home}/weights-0.pt?config={tmp_path}/open_clip_config.json")
    assert encoder.spec["preprocessing"]["resize_mode"] == "squash"
    assert encoder.encode(PICTURES, PROMPTS).shape == (5, 24)


def test_open_clip_weights_of_another_architecture_are_refused(home):
    with pytest.raises(SpecError, match=r"weights-0.pt contains no weights of this architecture: "):
        open_encoder(f"open_clip:ViT-B-32/{home}/weights-0.pt").encode(PICTURES, PROMPTS)
