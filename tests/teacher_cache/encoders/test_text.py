"""The text control: it equals the library's sentence embedding."""

import numpy as np

from teacher_cache import minilm_folder, open_encoder
from tests.teacher_cache.encoders.tiny_encoders import PROMPTS, digest


def test_the_text_control_is_the_prompts_sentence_embedding_and_ignores_the_picture(home):
    from sentence_transformers import SentenceTransformer

    encoder = open_encoder("text:minilm?unit_norm=true")
    features = encoder.encode([b""] * 5, PROMPTS)
    expected = SentenceTransformer(str(minilm_folder()), device="cpu").encode(PROMPTS, normalize_embeddings=True)
    assert np.allclose(features, expected, atol=1e-5)
    assert digest(open_encoder("text:minilm")) == digest(open_encoder(f"text:{home}/minilm"))
