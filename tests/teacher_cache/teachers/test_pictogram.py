"""The real pictogram teacher and the real EfficientNet-lite0, with the packages that the demo installs."""

import io

import numpy as np
import pytest
from PIL import Image

from teacher_cache import open_encoder, open_teacher, source_of_encoder
from teacher_cache.teachers import Request

PROMPTS = ["my dog chased a cat", "the flight to Paris was late", "happy birthday with cake"]


@pytest.fixture(scope="module")
def teacher():
    return open_teacher("pictogram")


def draw(teacher, prompts, sample=0):
    requests = [Request(f"k{i}", prompt, sample, i) for i, prompt in enumerate(prompts)]
    return [answer.data for answer in teacher.draw(requests)]


def test_a_picture_depends_on_its_prompt_and_not_on_other_prompts(teacher):
    together = draw(teacher, PROMPTS)
    assert draw(teacher, PROMPTS[::-1])[::-1] == together
    assert [draw(teacher, [prompt])[0] for prompt in PROMPTS] == together
    assert len(set(together)) == 3


def test_a_picture_shows_what_the_prompt_describes(teacher):
    embed, names = teacher._retrieval
    scores = names @ embed(["happy birthday with cake"])[0]
    nearest = [path.stem for path in teacher._nearest(scores, 0)]
    assert "1F382" in nearest  # birthday cake


def test_samples_differ(teacher):
    assert draw(teacher, PROMPTS[:1], 0) != draw(teacher, PROMPTS[:1], 1)


def test_size_is_part_of_the_spec_and_of_the_picture(teacher):
    small = open_teacher("pictogram?size=96")
    assert small.spec != teacher.spec
    assert Image.open(io.BytesIO(draw(small, PROMPTS[:1])[0])).size == (96, 96)


def test_features_are_those_of_the_published_classifier(teacher):
    """The network's own ImageNet head gives the same logits on our features as the whole network on the pictures."""
    import torch

    encoder = open_encoder("efficientnet-lite0")
    features = encoder.encode(draw(teacher, PROMPTS), PROMPTS)
    assert features.shape == (3, 1280)
    assert features.dtype == np.float32
    pixels = torch.from_numpy(np.stack([encoder.prepare(picture, "") for picture in draw(teacher, PROMPTS)]))
    with torch.inference_mode():
        whole = encoder._model(pixels)
        ours = encoder._model._fc(torch.from_numpy(features))
    assert torch.allclose(whole, ours, atol=1e-3)


def test_a_feature_does_not_depend_on_its_batch(teacher):
    encoder = open_encoder("efficientnet-lite0")
    pictures = draw(teacher, PROMPTS)
    together = encoder.encode(pictures, PROMPTS)
    alone = np.concatenate([encoder.encode([picture], [""]) for picture in pictures])
    assert np.abs(together - alone).max() < 1e-4
    assert encoder.spec["weights_sha256"].startswith("57934424")


def test_the_encoders_digest_is_that_of_earlier_caches():
    source = source_of_encoder(open_encoder("efficientnet-lite0?device=cpu&batch=7"))
    assert source.digest == "702743ad194ede41ad34cbf804d2057879198d108fa6d08478b0d5b7587f52c3"
