"""The rate limit, with a clock that the test controls."""

import pytest

from teacher_cache.teachers.rate_limit import RateLimit


def test_the_rate_limit_spaces_requests_and_a_pause_delays_the_next():
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    limit = RateLimit(120, clock=lambda: now[0], sleep=sleep)
    sent = []
    for _ in range(5):
        limit.wait()
        sent.append(now[0])
    assert sent == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert limit.turned_away(now[0], 10) == 10
    limit.wait()
    assert now[0] == pytest.approx(12.0)


def test_without_a_time_to_wait_the_pause_doubles_with_each_burst_until_a_request_is_taken():
    now = [0.0]
    limit = RateLimit(clock=lambda: now[0], sleep=lambda seconds: None)
    pauses = []
    for burst in range(9):
        sent_at = now[0]
        pauses.append(limit.turned_away(sent_at))
        now[0] += 0.5
        assert limit.turned_away(sent_at) == pytest.approx(pauses[-1] - 0.5)  # of the same burst
        now[0] += 100
        if burst == 7:
            limit.taken()
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1]
