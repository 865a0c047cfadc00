"""A label means the same in whatever type a table writes it, and a hidden one is never a class."""

import math

import pytest

from distill.cards.cards import load_card
from distill.tasks.examples import UnlabelledError, examples_of
from teacher_cache import ArmadaError


def label(task, value, **columns):
    card = load_card(task)
    row = {**dict.fromkeys(card.columns, "words"), **columns, card.label: value}
    found = examples_of(card, row, str)
    return [one.label for one in found] if card.choices else found[0].label


@pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", " 1 ", "positive", True, "true", "True"])
def test_class_one_is_class_one_in_any_type(value):
    assert label("glue/sst2", value) == 1


@pytest.mark.parametrize("value", [None, "", " ", math.nan, "nan", "NaN", -1, -1.0, "-1", "-1.0"])
@pytest.mark.parametrize("task", ["glue/sst2", "superglue/copa"])
def test_a_hidden_label_is_no_class_and_no_choice(task, value):
    with pytest.raises(UnlabelledError):
        label(task, value)


@pytest.mark.parametrize("value", [2, 1.5, "2", "yes", -2, True + 1, "١٢"])
def test_what_is_no_class_of_the_card_is_an_error(value):
    with pytest.raises(ArmadaError, match=r"column 'label': expected one of negative, positive, found"):
        label("glue/sst2", value)


def test_true_is_refused_where_class_one_is_the_negative_one():
    with pytest.raises(ArmadaError, match="expected one of entailment, not_entailment, found True"):
        label("glue/rte", True)


@pytest.mark.parametrize(("value", "expected"), [("1", 0), (1, 0), (3.0, 2), ("3", 2)])
def test_a_class_that_is_named_by_a_number_is_found_by_its_name_and_not_by_its_place(value, expected):
    from distill.tasks.labels import label_of

    stars = load_card("glue/sst2").model_copy(update={"labels": ["1", "2", "3"]})
    assert label_of(stars, value) == expected
    with pytest.raises(ArmadaError, match="expected one of 1, 2, 3, found 0"):
        label_of(stars, 0)


@pytest.mark.parametrize("value", [1, 1.0, "1", "1.0", True, "true"])
def test_the_key_of_a_choice_is_found_in_any_type(value):
    assert label("superglue/copa", value, choice1="a", choice2="b") == [0, 1]


def test_true_is_no_key_of_choices_that_count_from_one():
    with pytest.raises(ArmadaError, match="expected one of 1, 2, found 'True'"):
        label("reasoning/winogrande", True, sentence="_ fell", option1="a", option2="b")


@pytest.mark.parametrize(("value", "expected"), [(-1.5, -1.5), ("-2", -2.0), (-1, -1.0), ("1e-3", 0.001)])
def test_targets_of_a_regression_may_be_negative(value, expected):
    assert label("glue/stsb", value) == expected


@pytest.mark.parametrize("value", [7, 7.0, "7", ["7", 8]])
def test_an_answer_may_be_written_as_a_number(value):
    assert label("reasoning/multiarith", value)[0] == "7"
