"""Keys are pinned to their digits, since every existing cache depends on them, and each part of a request counts."""

import pytest

from teacher_cache.keys import canonical_json, image_key, prompt_key, rewrite_key, seed_of, spec_digest

SPEC = {"kind": "diffusers", "model": "m", "steps": 20, "guidance": 7.5}


def test_keys_are_pinned_to_their_digits():
    teacher, prompt = spec_digest(SPEC), prompt_key("a cat")
    assert prompt == "51e467415607798220a3776f6ae1a2a09ddc7e5dcdc955d685477b4cf05ade22"
    assert teacher == "83df54d87a34c99e908d3ad8fb68cc27c389dcedb42b1c6a9d984688810ad861"
    key = image_key(teacher, prompt, 1)
    assert key == "77dd99f836b02776c8eff5c80e26eacc69f89be3cbec079ca3a39f3c944953c8"
    assert seed_of(key) == 4318614475857466299
    assert seed_of("ff" * 32) == 2**63 - 1
    assert seed_of("00" * 32) == 0


def test_canonical_json_ignores_the_order_of_names():
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    assert spec_digest(dict(reversed(SPEC.items()))) == spec_digest(SPEC)


def test_canonical_json_refuses_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"guidance": float("nan")})


@pytest.mark.parametrize("change", [{"kind": "x"}, {"model": "n"}, {"steps": 21}, {"guidance": 7.0}, {"extra": None}])
def test_changing_any_part_of_a_teacher_spec_changes_the_key(change):
    keys = {image_key(spec_digest(spec), prompt_key("a cat")) for spec in (SPEC, {**SPEC, **change})}
    assert len(keys) == 2


def test_changing_the_prompt_or_the_sample_changes_the_key():
    teacher = spec_digest(SPEC)
    keys = {image_key(teacher, prompt_key(text), k) for text in ("a cat", "a cat ", "A cat") for k in (0, 1)}
    assert len(keys) == 6


def test_composed_and_decomposed_unicode_have_the_same_key():
    assert prompt_key("caf\u00e9") == prompt_key("cafe\u0301")


def test_a_lone_surrogate_has_no_key():
    with pytest.raises(UnicodeEncodeError):
        prompt_key("\ud800")


def test_a_picture_without_a_number_is_the_first_sample():
    teacher, prompt = spec_digest(SPEC), prompt_key("a cat")
    assert image_key(teacher, prompt) == image_key(teacher, prompt, 0)


def test_a_rewritten_prompt_has_a_key_of_its_own_which_is_pinned_to_its_digits():
    rewriter, prompt = spec_digest({"kind": "openai-chat", "model": "m"}), prompt_key("a cat")
    assert rewrite_key(rewriter, prompt) == "b95fd81cfdcb810e49c57e2e0c51f34c71bed4e4e32318beadd57a5d8e675b86"
    assert rewrite_key(rewriter, prompt) != rewrite_key(rewriter, prompt_key("a dog"))
    assert rewrite_key(rewriter, prompt) != rewrite_key(prompt, rewriter)
    assert rewrite_key(rewriter, prompt) != image_key(rewriter, prompt)
