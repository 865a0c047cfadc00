"""A spec is typed by a user: one with an error is rejected, with the known alternatives."""

import pytest

from teacher_cache import SpecError, open_encoder, open_teacher
from teacher_cache.registry.specs import parse_spec


def test_a_spec_has_kind_model_and_options():
    spec = parse_spec("openai:gpt-image-1?base_url=http%3A%2F%2Flocalhost%2Fv1&size=512x512")
    assert (spec.kind, spec.model) == ("openai", "gpt-image-1")
    assert spec.params == {"base_url": "http://localhost/v1", "size": "512x512"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a spec"),
        ("pictogram?size", "OPTION=VALUE"),
        ("pictogram?size=2&size=3", "given twice"),
        ("pictogram?colour=red", "unknown option 'colour'; pictogram knows: size"),
        ("pictogram?size=large", "option size expects int, found 'large'"),
        ("dall-e", "unknown teacher 'dall-e'; known: azure, bfl, diffusers, folder, litellm, .*openai, .*pictogram"),
        ("no.such:factory", "no teacher at no.such:factory"),
    ],
)
def test_the_error_of_a_bad_teacher_spec_lists_what_is_known(text, message):
    with pytest.raises(SpecError, match=message):
        open_teacher(text)


def test_options_have_the_types_of_their_defaults_and_a_tuple_lists_the_allowed_words():
    defaults = {"size": 1, "scale": 0.5, "unit_norm": False, "pool": ("cls", "mean")}
    assert parse_spec("x").options(defaults) == {"size": 1, "scale": 0.5, "unit_norm": False, "pool": "cls"}
    given = parse_spec("x?unit_norm=true&pool=mean&size=3").options(defaults)
    assert given == {"size": 3, "scale": 0.5, "unit_norm": True, "pool": "mean"}
    assert parse_spec("x?unit_norm=false").options({"unit_norm": True}) == {"unit_norm": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x?unit_norm=yes", "option unit_norm expects one of false, true, found 'yes'"),
        ("x?pool=max", "option pool expects one of cls, mean, found 'max'"),
    ],
)
def test_a_word_that_is_not_listed_is_refused(text, message):
    with pytest.raises(SpecError, match=message):
        parse_spec(text).options({"unit_norm": False, "pool": ("cls", "mean")})


def test_a_custom_teacher_or_encoder_is_found_by_module_and_factory():
    assert open_teacher("tests.fakes:FakeTeacher?style=bold").spec == {"kind": "fake", "style": "bold"}
    assert open_encoder("tests.fakes:FakeEncoder?dimension=4").dimension == 4


def test_importing_teacher_cache_imports_no_heavy_package():
    import subprocess
    import sys

    code = "import sys, teacher_cache; print([m for m in ('torch', 'transformers', 'webdataset') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
