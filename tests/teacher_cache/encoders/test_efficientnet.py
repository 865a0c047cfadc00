"""The real EfficientNet-lite0, with the packages that the demo installs, on pictures of the pictogram teacher."""

import numpy as np
import pytest

from teacher_cache import open_encoder, open_teacher, source_of_encoder
from teacher_cache.teachers import Request

PROMPTS = ["my dog chased a cat", "the flight to Paris was late", "happy birthday with cake"]


@pytest.fixture(scope="module")
def pictures():
    requests = [Request(f"k{i}", prompt, 0, i) for i, prompt in enumerate(PROMPTS)]
    return [answer.data for answer in open_teacher("pictogram").draw(requests)]


def test_features_are_those_of_the_published_classifier(pictures):
    """The network's own ImageNet head gives the same logits on our features as the whole network on the pictures."""
    import torch

    encoder = open_encoder("efficientnet-lite0")
    features = encoder.encode(pictures, PROMPTS)
    assert features.shape == (3, 1280)
    assert features.dtype == np.float32
    pixels = torch.from_numpy(np.stack([encoder.prepare(picture, "") for picture in pictures]))
    with torch.inference_mode():
        whole = encoder._model(pixels)
        ours = encoder._model._fc(torch.from_numpy(features))
    assert torch.allclose(whole, ours, atol=1e-3)


def test_a_feature_does_not_depend_on_its_batch(pictures):
    encoder = open_encoder("efficientnet-lite0")
    together = encoder.encode(pictures, PROMPTS)
    alone = np.concatenate([encoder.encode([picture], [""]) for picture in pictures])
    assert np.abs(together - alone).max() < 1e-4
    assert encoder.spec["weights_sha256"].startswith("57934424")


def test_the_encoders_digest_is_that_of_earlier_caches():
    source = source_of_encoder(open_encoder("efficientnet-lite0?device=cpu&batch=7"))
    assert source.digest == "702743ad194ede41ad34cbf804d2057879198d108fa6d08478b0d5b7587f52c3"
