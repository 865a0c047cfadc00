"""The slowest hour is one in which a build was drawing; an hour in which nothing came is the slowest of all."""

from pipelines.night.hours import hours_of
from teacher_cache import Minute


def minutes(first, rates, build="a", calls=None):
    return [Minute(build, first + at, rate, 0, calls[at] if calls else rate, 0.0) for at, rate in enumerate(rates)]


def test_the_hour_of_an_outage_is_the_slowest_one():
    rates = [20] * 100 + [0] * 60 + [20] * 100
    found = hours_of(minutes(1000, rates))
    assert found.slowest.start == 60 * 1100
    assert (found.slowest.drawn, found.slowest.minutes) == (0, 60)
    assert found.fastest.per_minute == 20


def test_the_time_between_two_runs_is_no_slow_hour():
    found = hours_of([*minutes(1000, [20] * 115 + [1] * 5), *minutes(5000, [10] * 120, "b")])
    assert found.slowest.start >= 60 * 5000
    assert found.slowest.per_minute == 10
    assert found.drawing_minutes == 240
    assert found.per_minute == (20 * 115 + 5 + 10 * 120) / 240


def test_two_builds_at_the_same_time_are_added_up():
    found = hours_of([*minutes(1000, [20] * 200), *minutes(1000, [5] * 200, "b")])
    assert found.per_minute == found.slowest.per_minute == 25


def test_calls_that_were_repeated_are_counted_in_the_slowest_hour():
    rates = [20] * 120 + [2] * 60 + [20] * 120
    calls = [20] * 120 + [9] * 60 + [20] * 120
    assert hours_of(minutes(0, rates, calls=calls)).slowest.repeated == 60 * 7


def test_a_short_night_compares_shorter_parts_or_none():
    assert hours_of(minutes(0, [20] * 20 + [4] * 10 + [20] * 20)).slowest.minutes == 10
    assert hours_of(minutes(0, [20])).slowest is None
    assert hours_of([]).bars == ()


def test_the_chart_has_a_bounded_number_of_bars_that_add_up():
    found = hours_of(minutes(0, [3] * 10_000))
    assert len(found.bars) <= 120
    assert sum(bar.drawn for bar in found.bars) == 30_000
