"""Failures are grouped by what is wrong and not by the words that differ, and no secret of a message is shown."""

from pipelines.night.reasons import GROUPS, group_failures


def test_messages_that_differ_in_numbers_keys_and_quotes_are_one_group():
    rows = [
        ("transient", f"HTTP 500: request req_{n:08d}abcd of “thing {n}” failed after {n}.5 s", f"p{n}")
        for n in range(9)
    ]
    found = group_failures([*rows, ("refused", "the prompt violates the policy", "q")])
    assert [(group.reason, group.count) for group in found.groups] == [("transient", 9), ("refused", 1)]
    assert [one.prompt for one in found.groups[0].examples] == ["p0", "p1", "p2"]
    assert found.counts == {"transient": 9, "refused": 1}


def test_only_the_most_frequent_groups_are_shown_and_the_rest_is_counted():
    letters = "abcdefghijklmnopqrstuvwxyz"
    rows = [("refused", f"because of {letter}", "p") for place, letter in enumerate(letters) for _ in range(place + 1)]
    found = group_failures(rows)
    assert [group.kind for group in found.groups][:2] == ["because of z", "because of y"]
    assert len(found.groups) == GROUPS
    assert found.other_groups == 26 - GROUPS
    assert found.other_rows + sum(group.count for group in found.groups) == found.rows == 351


def test_secrets_in_messages_are_left_out(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret-1")
    message = "GET https://me:pass-word@host.example/x?token=t0ken-99 with sk-very-secret-1 failed"
    text = repr(group_failures([("transient", message, "p")]))
    assert "host.example/x" in text
    assert not [secret for secret in ("sk-very-secret-1", "pass-word", "t0ken-99") if secret in text]
