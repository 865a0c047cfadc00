"""The join is by key: no order, no neighbour and no gap can put a feature beside the wrong row."""

import numpy as np
import pytest

from teacher_cache import (
    BuildOptions,
    SpecError,
    build,
    choose,
    encoder_source,
    open_encoder,
    open_features,
    teacher_source,
)
from tests import fakes

PROMPTS = [f"prompt {i}" for i in range(17)]


def expected(prompts):
    """Each prompt's feature, straight from teacher and encoder."""
    from teacher_cache import Request, image_key, prompt_key
    from teacher_cache.keys import seed_of

    teacher, encoder = fakes.teacher(), fakes.encoder()
    digest = teacher_source(teacher).digest
    keys = [image_key(digest, prompt_key(prompt)) for prompt in prompts]
    requests = [Request(key, prompt, 0, seed_of(key)) for key, prompt in zip(keys, prompts, strict=True)]
    pictures = [answer.data for answer in teacher.draw(requests)]
    return encoder.encode(pictures, prompts).astype(np.float16)


def test_every_prompt_gets_its_own_feature_in_any_order(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), BuildOptions(shard_rows=4))
    features = open_features(cache, *choose(cache, None, None))
    for prompts in (PROMPTS, PROMPTS[::-1], PROMPTS[3:9] * 2):
        assert np.array_equal(features.matrix[features.rows_of(prompts)], expected(prompts))


def test_an_unknown_prompt_is_minus_one(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    features = open_features(cache, *choose(cache, None, None))
    assert features.rows_of(["never drawn", PROMPTS[0]])[0] == -1
    assert features.rows_of(PROMPTS, sample=1).tolist() == [-1] * 17


def test_a_grown_cache_is_decoded_anew_and_the_old_matrix_stays(cache):
    build(cache, PROMPTS[:5], fakes.teacher(), fakes.encoder())
    before = open_features(cache, *choose(cache, None, None))
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    after = open_features(cache, *choose(cache, None, None))
    assert (len(before.matrix), len(after.matrix)) == (5, 17)
    assert np.array_equal(after.matrix[after.rows_of(PROMPTS[:5])], before.matrix[before.rows_of(PROMPTS[:5])])


def test_the_second_opening_decodes_nothing(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    open_features(cache, *choose(cache, None, None))
    monkeypatch.setattr("teacher_cache.reader.decode", lambda *_, **__: pytest.fail("decoded twice"))
    assert open_features(cache, *choose(cache, None, None)).matrix.shape == (17, 8)


def test_several_teachers_must_be_told_apart(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    build(cache, PROMPTS[:2], fakes.teacher(style="bold"), fakes.encoder())
    with pytest.raises(SpecError, match=r"has several teachers .* name one by --teacher SPEC"):
        choose(cache, None, None)
    assert choose(cache, teacher_source(fakes.teacher()).digest, None)[0].spec["style"] == "plain"


def test_an_encoder_that_the_cache_lacks_is_an_error(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    other = encoder_source(open_encoder("tests.fakes:FakeEncoder?version=9"))
    with pytest.raises(SpecError, match=r"expected the encoder .* found: fake-encoder-.*; build it first"):
        choose(cache, None, other.digest)
