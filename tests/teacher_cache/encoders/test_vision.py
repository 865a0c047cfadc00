"""Vision towers of transformers: features equal the library's, and no weight is random."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from teacher_cache import SpecError, open_encoder
from tests.teacher_cache.encoders.tiny_encoders import PICTURES, PROMPTS, TOWERS, images


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("pool", ["pooled", "cls", "mean", "projected"])
def test_transformers_features_equal_those_of_the_library(kind, pool, home):
    from transformers import AutoImageProcessor, AutoModel

    text = f"transformers:{home}/{kind}?pool={pool}"
    if pool == "projected" and kind != "clip":
        with pytest.raises(SpecError, match=r"\w+ has no pool=projected; expected pool=pooled\|"):
            open_encoder(text)
        return
    if pool == "cls" and kind == "siglip":
        with pytest.raises(SpecError, match=r"siglip_vision_model has no pool=cls; expected pool=pooled\|mean"):
            open_encoder(text)
        return
    if pool == "pooled" and kind == "vit-classifier":
        with pytest.raises(SpecError, match=r"no weights for the pooler .*which would be random; use pool=cls"):
            open_encoder(text).encode(PICTURES, PROMPTS)
        return
    model = AutoModel.from_pretrained(home / kind).eval()
    pixels = AutoImageProcessor.from_pretrained(home / kind)(images=images(), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        output = getattr(model, "vision_model", model)(pixel_values=pixels)
        states = output.last_hidden_state
        expected = {
            "pooled": output.pooler_output,
            "cls": states[:, 0],
            "mean": states[:, 0 if kind == "siglip" else 1 :].mean(1),
            "projected": model.get_image_features(pixel_values=pixels).pooler_output if kind == "clip" else None,
        }[pool]
    assert np.allclose(open_encoder(text).encode(PICTURES, PROMPTS), expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "lost"), [("vit", "encoder.layer.0"), ("siglip", "head."), ("clip", "layers.1")])
def test_a_checkpoint_that_lacks_weights_is_refused(kind, lost, home, tmp_path):
    shutil.copytree(home / kind, tmp_path / kind)
    path = tmp_path / kind / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(path).items() if lost not in name or "text_model" in name}
    assert len(kept) < len(load_file(path))
    save_file(kept, path, {"format": "pt"})
    message = "use pool=mean" if kind == "siglip" else "lacks .* weights, among them .*; they would be random"
    with pytest.raises(SpecError, match=message):
        open_encoder(f"transformers:{tmp_path / kind}").encode(PICTURES, PROMPTS)
