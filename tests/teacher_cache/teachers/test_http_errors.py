"""Errors of servers are read by their status and their structured code, never by the words of their message."""

import json
from datetime import datetime, timezone

import pytest

from teacher_cache.teachers.http_errors import HopelessError, classify, retry_after

NOW = datetime(2026, 11, 25, 12, tzinfo=timezone.utc)


def body(**facts):
    return json.dumps({"error": {"message": "x", **facts}}).encode()


@pytest.mark.parametrize(
    ("status", "sent", "expected"),
    [
        (400, body(code="moderation_blocked", type="image_generation_user_error"), "refused"),
        (400, body(code="content_policy_violation", param=None), "refused"),
        (400, body(code="contentFilter"), "refused"),
        (400, body(code=None, inner_error={"code": "ResponsibleAIPolicyViolation"}), "refused"),
        (403, body(code="content_filter"), "refused"),
        (200, body(code="content_policy_violation"), "refused"),
        (400, body(code="DataInspectionFailed"), "refused"),
        (400, body(message="rejected by our safety system: content policy, moderation"), "permanent"),
        (400, body(code="invalid_value", message="size"), "permanent"),
        (400, body(code="string_above_max_length", param="prompt"), "permanent"),
        (422, b'{"detail": "bad size"}', "permanent"),
        (400, body(code="invalid_value", param="body.prompt"), "permanent"),
        (400, body(code="invalid_type", param="prompt[0]"), "permanent"),
        (422, b'{"detail": [{"loc": ["body", "prompt"], "msg": "too long", "type": "value_error"}]}', "permanent"),
        (400, b"[" * 1500, "permanent"),
        (302, b"", "permanent"),
        (408, b"", "transient"),
        (502, b"<html>bad gateway</html>", "transient"),
        (200, body(code=502), "transient"),
        (500, body(message="billing_hard_limit_reached content_policy_violation"), "transient"),
    ],
)
def test_an_error_has_the_reason_that_its_status_and_code_state(status, sent, expected):
    error = classify(status, {}, sent, NOW)
    assert (error.reason, error.billed, error.turned_away) == (expected, False, False)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("status", "sent", "message"),
    [
        (400, body(code="billing_hard_limit_reached", type="billing_limit_user_error"), "pay the provider"),
        (429, body(code="insufficient_quota", type="insufficient_quota"), "pay the provider"),
        (200, body(code="billing_hard_limit_reached"), "pay the provider"),
        (402, b"", "pay the provider"),
        (400, b'{"code": "Arrearage", "message": "x"}', "pay the provider"),
        (400, body(code="account_deactivated", message="for content policy violations"), "check the account"),
        (403, body(code="account_blocked", message="moderation"), "check the account"),
        (403, body(message="Your account was blocked: safety policy"), "check the key"),
        (400, body(code="user_blocked"), "check the account"),
        (400, body(code=None, type="access_terminated"), "check the account"),
        (401, body(code="invalid_api_key"), "check the account, the key"),
        (404, body(code="model_not_found"), "check the account, the key and the model"),
        (400, body(code="unknown_parameter", param="moderation", message="Unknown parameter"), "parameter moderation"),
        (400, body(code="unknown_parameter", message="content_policy"), "a parameter of the request"),
        (400, body(code="invalid_value", param="size"), "parameter size"),
        (422, b'{"detail": [{"loc": ["body", "size"], "msg": "no", "type": "extra_forbidden"}]}', "parameter size"),
        (200, body(code="unknown_parameter", param="seed"), "parameter seed"),
    ],
)
def test_an_error_that_every_request_would_meet_stops_the_build(status, sent, message):
    with pytest.raises(HopelessError, match=message):
        classify(status, {}, sent, NOW)


@pytest.mark.parametrize(
    ("status", "headers", "sent", "wait_s"),
    [
        (429, {"retry-after": "12"}, body(code="rate_limit_exceeded"), 12),
        (429, {"retry-after-ms": "1500"}, b"", 1.5),
        (429, {}, body(type="requests", message="billing content_policy_violation"), 0),
        (400, {}, body(code="rate_limit_exceeded"), 0),
        (200, {}, body(code="429"), 0),
        (503, {"retry-after": "3"}, b"busy", 3),
    ],
)
def test_a_limit_on_requests_turns_a_request_away_without_failing_it(status, headers, sent, wait_s):
    error = classify(status, headers, sent, NOW)
    assert (error.turned_away, error.wait_s, error.billed) == (True, wait_s, False)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), ("1.5", 1.5), ("Wed, 25 Nov 2026 12:00:09 GMT", 9), ("", 0), ("soon", 0), ("-3", 0), ("nan", 0)],
)
def test_retry_after_in_seconds_or_as_a_date(value, seconds):
    assert retry_after(value, NOW) == seconds
