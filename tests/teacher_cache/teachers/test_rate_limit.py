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
    limit.pause(10)
    limit.wait()
    assert now[0] == pytest.approx(12.0)
