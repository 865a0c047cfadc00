"""Recipes in a teacher's spec: what a template draws, what is refused, and that no key changes without one."""

import pytest

from teacher_cache import Recipe, Source, SpecError, open_teacher, recipe_of, source_of_teacher, with_recipe

TEACHER = "tests.fakes:FakeTeacher?style=plain"


def source(**options):
    return source_of_teacher(open_teacher(with_recipe(TEACHER, **options)))


def test_without_a_recipe_no_key_changes():
    plain = source_of_teacher(open_teacher(TEACHER))
    assert plain.spec == {"kind": "fake", "style": "plain"}
    assert plain.digest == "543ad4b87dd7d1b4fad442372c2b729833f188d3aba2e946360fc84f1844d9cf"
    assert source(template="{text}").digest == plain.digest == source(prefix="", suffix="").digest
    assert recipe_of(plain) is None


@pytest.mark.parametrize(
    ("options", "drawn"),
    [
        ({"template": "a photo of {text}"}, "a photo of cat"),
        ({"template": "{text}"}, "cat"),
        ({"template": "{{{text}}} 50% & more=1?#+é"}, "{cat} 50% & more=1?#+é"),
        ({"prefix": "an {icon} of ", "suffix": ", {{flat}}"}, "an {icon} of cat, {{flat}}"),
        ({"template": "<{text}>", "prefix": "a ", "suffix": " z"}, "a <cat> z"),
        ({"template": "line 1\n{text}"}, "line 1\ncat"),
        ({"suffix": " e\u0301"}, "cat \u00e9"),
    ],
)
def test_a_template_draws_the_text_in_its_place(options, drawn):
    found = recipe_of(source(**options)) or Recipe()
    assert found.drawn("cat") == drawn


def test_a_text_with_braces_is_no_template():
    assert recipe_of(source(template="see {text}")).drawn("{text} {0} {x!r}") == "see {text} {0} {x!r}"


def test_a_prefix_has_the_key_of_the_template_that_draws_the_same():
    assert source(prefix="a {b} ").digest == source(template="a {{b}} {text}").digest
    assert source(prefix="a ").digest != source(suffix=" a").digest


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("a photo", "found it nowhere"),
        ("", "found it nowhere"),
        ("{text} and {text}", "found it 2 times"),
        ("{", "a single brace"),
        ("{text} }", "a single brace"),
        ("{prompt}", "found {prompt}"),
        ("{text!r}", "found {text!r}"),
        ("{text:>9}", "found {text:>9}"),
        ("{text.__class__}", "found {text.__class__}"),
        ("{}{text}", "found {}"),
    ],
)
def test_a_template_without_exactly_one_text_is_refused(template, found):
    with pytest.raises(SpecError, match=r"--prompt-template: expected \{text\} exactly once") as error:
        with_recipe(TEACHER, template=template)
    assert found in str(error.value)


def test_what_contradicts_is_refused():
    with pytest.raises(SpecError, match=r"has prompt\.template= already"):
        with_recipe(with_recipe(TEACHER, prefix="a "), suffix=" b")
    with pytest.raises(SpecError, match=r"unknown option 'prompt\.templat'.*did you mean"):
        open_teacher("tests.fakes:FakeTeacher?prompt.templat=x{text}")
    with pytest.raises(SpecError, match="expected the spec of a chat model"):
        with_recipe(TEACHER, rewrite=" ")
    with pytest.raises(SpecError, match=r"unknown rewriter 'gpt-4\.1-mini'"):
        open_teacher(with_recipe(TEACHER, rewrite="gpt-4.1-mini"))
    with pytest.raises(SpecError, match="lone surrogate"):
        with_recipe(TEACHER, prefix="\udc80 ")


def test_the_spec_with_a_recipe_opens_the_same_teacher_again():
    typed = with_recipe(
        TEACHER, template="a+b & {text}; 100%=c", rewrite="openai:m?base_url=http://h:1/v1&as=n&seed=false"
    )
    first = source_of_teacher(open_teacher(typed))
    assert source_of_teacher(open_teacher(first.facts["text"])).digest == first.digest
    assert first.spec["prompt_recipe"]["rewrite"]["server"] == "n"
    assert first.name.startswith("fake-")


@pytest.mark.parametrize(
    "value", [1, [], {"template": 3}, {"template": "no place"}, {"rewrite": "x"}, {"rewrite": [1]}]
)
def test_a_recipe_that_a_stranger_has_written_is_none(value):
    assert recipe_of(Source({"kind": "fake", "prompt_recipe": value}, "0" * 64)) is None
