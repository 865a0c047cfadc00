"""HTTP error responses: their reasons, and how long the server asks to wait."""

from datetime import datetime, timezone

import pytest

from teacher_cache.teachers.http_errors import reason_of, retry_after

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("status_code", "body", "expected"),
    [
        (400, b'{"error": {"code": "moderation_blocked", "message": "x"}}', "refused"),
        (403, b'{"error": {"code": "content_filter", "message": "x"}}', "refused"),
        (400, b'{"error": {"code": "invalid_value", "message": "size"}}', "permanent"),
        (422, b'{"detail": "bad size"}', "permanent"),
        (302, b"", "permanent"),
        (408, b"", "transient"),
        (502, b"<html>bad gateway</html>", "transient"),
    ],
)
def test_an_error_status_has_one_of_three_reasons(status_code, body, expected):
    reason, message, _ = reason_of(status_code, {}, body, NOW)
    assert reason == expected
    assert f"HTTP {status_code}" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("1.5", 1.5), ("Wed, 25 Nov 2026 12:00:09 GMT", 9), ("", 0), ("soon", 0), ("-3", 0)],
)
def test_retry_after_in_seconds_or_as_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds
