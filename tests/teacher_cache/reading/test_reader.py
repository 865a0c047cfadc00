"""Features are found by key: neither order nor gaps assign a feature to the wrong prompt. Features are decoded once per
machine.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from teacher_cache import (
    BuildOptions,
    Cache,
    CacheError,
    Source,
    SpecError,
    build,
    choose,
    compact,
    open_encoder,
    open_features,
    source_of_encoder,
    source_of_teacher,
)
from teacher_cache.reading import reader
from tests import fakes

PROMPTS = [f"prompt {i}" for i in range(17)]
SMALL = BuildOptions(shard_rows=4)


def expected(prompts):
    """Return the features of the prompts, computed with teacher and encoder directly."""
    from teacher_cache import Request, image_key, prompt_key
    from teacher_cache.keys import seed_of

    teacher, encoder = fakes.teacher(), fakes.encoder()
    digest = source_of_teacher(teacher).digest
    keys = [image_key(digest, prompt_key(prompt)) for prompt in prompts]
    requests = [Request(key, prompt, 0, seed_of(key)) for key, prompt in zip(keys, prompts, strict=True)]
    pictures = [answer.data for answer in teacher.draw(requests)]
    return encoder.encode(pictures, prompts).astype(np.float16)


def test_every_prompt_gets_its_own_feature_in_any_order(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    features = open_features(cache, *choose(cache, None, None))
    for prompts in (PROMPTS, PROMPTS[::-1], PROMPTS[3:9] * 2):
        assert np.array_equal(features.matrix[features.rows_of(prompts)], expected(prompts))


def test_an_unknown_prompt_is_minus_one(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    features = open_features(cache, *choose(cache, None, None))
    assert features.rows_of(["never drawn", PROMPTS[0]])[0] == -1
    assert features.rows_of(PROMPTS, sample=1).tolist() == [-1] * 17


def test_a_cache_that_has_grown_is_decoded_again_and_the_open_matrix_stays(cache):
    build(cache, PROMPTS[:5], fakes.teacher(), fakes.encoder())
    before = open_features(cache, *choose(cache, None, None))
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    after = open_features(cache, *choose(cache, None, None))
    assert (len(before.matrix), len(after.matrix)) == (5, 17)
    assert np.array_equal(after.matrix[after.rows_of(PROMPTS[:5])], before.matrix[before.rows_of(PROMPTS[:5])])


def test_the_second_opening_decodes_nothing(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    open_features(cache, *choose(cache, None, None))
    monkeypatch.setattr("teacher_cache.reading.reader.decode", lambda *_, **__: pytest.fail("decoded twice"))
    assert open_features(cache, *choose(cache, None, None)).matrix.shape == (17, 8)


def test_one_of_several_teachers_must_be_chosen(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    build(cache, PROMPTS[:2], fakes.teacher(style="bold"), fakes.encoder())
    with pytest.raises(SpecError, match=r"has several teachers .* choose one with --teacher "):
        choose(cache, None, None)
    assert choose(cache, source_of_teacher(fakes.teacher()).digest, None)[0].spec["style"] == "plain"


def test_an_encoder_of_texts_is_taken_only_if_it_is_named_or_alone(cache):
    text = fakes.encoder()
    text.spec = {**text.spec, "kind": "text"}
    build(cache, PROMPTS[:2], fakes.teacher(), text)
    assert choose(cache, None, None)[1].spec["kind"] == "text"
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    assert choose(cache, None, None)[1].spec["kind"] == "fake-encoder"
    assert choose(cache, None, source_of_encoder(text).digest)[1].spec["kind"] == "text"
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder(version="2"))
    with pytest.raises(SpecError, match="has several encoders"):
        choose(cache, None, None)


def test_an_encoder_that_the_cache_lacks_is_an_error(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    other = source_of_encoder(open_encoder("tests.fakes:FakeEncoder?version=9"))
    with pytest.raises(SpecError, match=r"expected the encoder .* found: fake-encoder-.*; build it first"):
        choose(cache, None, other.digest)


def opened(cache, **options):
    return open_features(cache, *choose(cache, None, None), **options)


def only(cache, pattern):
    (path,) = cache.derived_folder.glob(pattern)
    return path


def test_opening_decoded_features_reads_no_shard(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    opened(cache)
    for path in Path(str(cache.store)).rglob("shards/*"):
        path.write_bytes(b"")
    again = Cache(cache.store.url)
    features = opened(again)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_open_features_stay_the_same_while_the_cache_grows(cache):
    build(cache, PROMPTS[:9], fakes.teacher(), fakes.encoder(), SMALL)
    features = opened(cache)
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    compact(cache, vacuum=True)
    assert np.array_equal(features.take(features.rows_of(PROMPTS[:9])), expected(PROMPTS[:9]))
    assert (features.rows_of(PROMPTS[9:]) == -1).all()
    assert np.array_equal(opened(cache).take(opened(cache).rows_of(PROMPTS)), expected(PROMPTS))


def test_shards_are_listed_again_if_one_is_removed_between_listing_and_reading(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    plain = reader.decode

    def compact_first(*arguments, **options):
        monkeypatch.setattr(reader, "decode", plain)
        compact(Cache(cache.store.url), vacuum=True)
        plain(*arguments, **options)

    monkeypatch.setattr(reader, "decode", compact_first)
    features = opened(cache)
    assert np.array_equal(features.take(features.rows_of(PROMPTS)), expected(PROMPTS))


def test_shards_are_listed_again_if_one_is_removed_between_commits_and_listing(cache, monkeypatch):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder(), SMALL)
    plain = Cache.shards

    def compact_next(self, folder=""):
        listed = plain(self, folder)
        monkeypatch.setattr(Cache, "shards", plain)
        compact(Cache(cache.store.url), vacuum=True)
        return listed

    monkeypatch.setattr(Cache, "shards", compact_next)
    assert (opened(cache).rows_of(PROMPTS) >= 0).all()


def test_two_processes_open_and_one_decodes(cache):
    build(cache, PROMPTS, fakes.teacher(), fakes.encoder())
    code = (
        "import sys\nfrom teacher_cache import Cache, choose, open_features\nfrom teacher_cache.reading import reader\n"
        "plain = reader.decode\n"
        "def loud(*arguments, **options):\n    print('decoded')\n    plain(*arguments, **options)\n"
        "reader.decode = loud\ncache = Cache(sys.argv[1])\n"
        "print(len(open_features(cache, *choose(cache, None, None))))\n"
    )
    command = [sys.executable, "-c", code, cache.store.url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    outputs = [process.communicate()[0].split() for process in both]
    assert sorted(outputs[0] + outputs[1]) == ["17", "17", "decoded"]


def test_features_of_another_type_than_the_specs_are_refused(cache):
    build(cache, PROMPTS[:2], fakes.teacher(), fakes.encoder())
    teacher, encoder = choose(cache, None, None)
    wrong = Source({**encoder.spec, "dtype": "float32"}, encoder.digest, encoder.facts)
    with pytest.raises(CacheError, match=r"expected features of shape \(2, 8\) and type float32, found .* of float16"):
        open_features(cache, teacher, wrong)
