"""What the student reads and what the teacher is asked: marks, blanks, markup, and rows without an input."""

import ftfy
import pytest
from hypothesis import example, given, strategies as st

from distill.cards.cards import load_card
from distill.tasks.distinct_rows import NOTHING_TO_FIX
from distill.tasks.examples import examples_of
from teacher_cache import ArmadaError


def test_dolly_has_the_heading_of_the_input_only_where_there_is_one():
    card = load_card("instruction/dolly")
    for context in ("", " ", None, float("nan")):
        (found,) = examples_of(card, {"instruction": "Say hi.", "context": context, "response": "Hi."}, str)
        assert "### Input" not in found.texts[0]
        assert "paired with an input" not in found.texts[0]
        assert found.prompt == "Say hi."
    (found,) = examples_of(card, {"instruction": "Sum up.", "context": "A tale.", "response": "Hi."}, str)
    assert "### Input:\nA tale.\n\n### Response:\n" in found.texts[0]
    assert found.prompt == "Sum up. A tale."


@pytest.mark.parametrize("name", ["s-ni", "self-instruct", "unni", "vicuna"])
@pytest.mark.parametrize("context", ["", "A tale."])
def test_a_published_test_row_reads_as_dollys_rows_and_asks_the_teacher_no_boilerplate(name, context):
    row = {"instruction": "Sum up.", "context": context, "response": "Hi."}
    (dolly,) = examples_of(load_card("instruction/dolly"), row, str)
    (found,) = examples_of(load_card(f"instruction/{name}"), {"prompt": dolly.texts[0], "output": ["Hi."]}, str)
    assert found.texts == dolly.texts
    assert found.prompt == dolly.prompt


WSC = {"text": "Ann told Eve that she was glad that she won.", "span1_text": "Ann", "span1_index": 0, "label": True}


@pytest.mark.parametrize(
    ("span", "place", "expected"),
    [
        ("she", 4, "*Ann* told Eve that #she# was glad that she won."),
        ("she", 8, "*Ann* told Eve that she was glad that #she# won."),
        ("She", "8", "*Ann* told Eve that she was glad that #she# won."),
        ("she", 7, "*Ann* told Eve that she was glad that #she# won."),  # one word off, as some published rows are
        ("he", 4, "*Ann* told Eve that she was glad that she won."),
    ],
)
def test_wsc_marks_its_two_spans_in_the_text_and_not_in_the_prompt(span, place, expected):
    row = {**WSC, "span2_text": span, "span2_index": place}
    (found,) = examples_of(load_card("superglue/wsc"), row, str)
    assert found.texts[0] == expected
    assert found.prompt == f"{WSC['text']} {span} is Ann"
    assert found.label == 1


def test_winogrande_fills_the_blank_with_each_choice():
    row = {
        "sentence": "The cup did not fit because _ was big.",
        "option1": "the cup",
        "option2": "the box",
        "answer": "1",
    }
    found = examples_of(load_card("reasoning/winogrande"), row, str)
    assert [one.texts[0] for one in found] == [
        "The cup did not fit because the cup was big.",
        "The cup did not fit because the box was big.",
    ]
    assert [one.prompt for one in found] == [one.texts[0] for one in found]
    with pytest.raises(ArmadaError, match="column 'sentence': expected a text with the blank '_'"):
        examples_of(load_card("reasoning/winogrande"), {**row, "sentence": "No blank."}, str)


def test_hellaswag_loses_the_tags_of_wikihow_and_no_words():
    row = {
        "ctx": "[header] How to fry [title] Heat a pan. [step] Take oil.",
        "endings": ["[substeps] Pour it.", "Stop [1].", "[title] Then eat.", "Go."],
        "label": "0",
    }
    found = examples_of(load_card("reasoning/hellaswag"), row, str)
    assert found[0].texts == ("How to fry. Heat a pan. Take oil.", "Pour it.")
    assert [one.texts[1] for one in found[1:]] == ["Stop [1].", "Then eat.", "Go."]
    assert found[0].prompt.startswith("Pour it.")


def test_equal_choices_are_one_choice_that_keeps_the_right_answer():
    for right in ("0", "1", "2", "3"):
        row = {"ctx": "A man", "endings": ["sits.", "eats.", "sits.", "runs."], "label": right}
        found = examples_of(load_card("reasoning/hellaswag"), row, str)
        assert [one.texts[1] for one in found] == ["sits.", "eats.", "runs."]
        assert sum(one.label for one in found) == 1
        assert next(one.texts[1] for one in found if one.label) == row["endings"][int(right)]


def test_a_choice_without_a_key_is_an_error_and_not_dropped():
    row = {"ctx": "A man", "endings": ["a", "b", "c", "d", "e"], "label": "0"}
    with pytest.raises(ArmadaError, match="expected a key for each of 5 choices, found 4"):
        examples_of(load_card("reasoning/hellaswag"), row, str)


@pytest.mark.parametrize("name", ["glue/rte", "superglue/cb"])
def test_the_prompt_has_the_hypothesis_first_for_a_teacher_with_a_short_window(name):
    card = load_card(name)
    row = {**dict.fromkeys(card.columns, "a long text"), card.text[1].strip("{}"): "The hypothesis.", "label": 0}
    (found,) = examples_of(card, row, str)
    assert found.prompt == "The hypothesis. a long text"


@given(st.text(st.characters(max_codepoint=127)))
@example("a &amp; b")
@example("a\r\nb")
@example("\x1b[1mbold\x1b[0m")
def test_the_texts_that_are_not_given_to_ftfy_are_those_that_it_would_return_unchanged(text):
    assert not NOTHING_TO_FIX(text) or ftfy.fix_text(text) == text
