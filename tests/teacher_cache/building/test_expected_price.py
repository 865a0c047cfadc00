"""What a request is expected to cost: what the cache's requests have cost, failed calls included, but no less than an
exact price."""

import pytest

from teacher_cache import BuildOptions, build, expected_price, source_of_teacher, spent_so_far
from tests import fakes


def priced(usd):
    return fakes.FakeTeacher(fakes.Spec("fake", "", {}, "fake"), usd)


def test_before_the_first_call_it_is_the_teachers_own_price(cache):
    source = source_of_teacher(priced(0.04))
    assert (expected_price(cache, source, 0.04), spent_so_far(cache, source)) == (0.04, 0.0)
    assert expected_price(cache, source, None) is None


def test_afterwards_it_is_what_was_paid_per_request_with_refusals_and_repeated_calls(cache):
    teacher, source = priced(0.04), source_of_teacher(priced(0.04))
    for options in (BuildOptions(), BuildOptions(retry=("transient",))):
        build(cache, ["a", "b", "[refused] c", "[transient] d"], teacher, fakes.encoder(), options)
    assert spent_so_far(cache, source) == pytest.approx(0.2)  # d was called twice
    assert expected_price(cache, source, 0.04) == pytest.approx(0.2 / 4)
    assert expected_price(cache, source, None) == pytest.approx(0.2 / 4)


def test_it_is_not_less_than_an_exact_price_since_some_may_have_been_bought_by_batch(cache):
    build(cache, ["a", "b"], priced(0.02), fakes.encoder())
    source = source_of_teacher(priced(0.02))
    assert expected_price(cache, source, 0.04) == 0.04
    assert expected_price(cache, source, 0.04, is_exact=False) == pytest.approx(0.02)


def test_pictures_without_a_cost_leave_the_price_as_it_is_said_to_be(cache):
    build(cache, ["a", "b"], priced(None), fakes.encoder())
    build(cache, ["c"], priced(0.02), fakes.encoder())
    assert expected_price(cache, source_of_teacher(priced(0.02)), 0.05) == 0.05
