"""Texts without secrets: nothing that a page or a notification shows contains a password or a token that we know of."""

from __future__ import annotations

import os
import re

from teacher_cache import without_secrets

_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|NOTIFY", re.IGNORECASE)
_SHORTEST = 8  # characters: a shorter value may be any word


def clean(text: str) -> str:
    """Return a text in which each URL has lost its user, password and query, and each value of an environment variable
    that is named like a secret (KEY, TOKEN, SECRET, PASSWORD, ...) is `***`."""
    for value in sorted(_known(), key=len, reverse=True):
        text = text.replace(value, "***")
    return without_secrets(text)


def _known() -> set[str]:
    return {
        value.strip()
        for name, value in os.environ.items()
        if _NAMES.search(name) and len(value.strip()) >= _SHORTEST and not os.path.exists(value.strip())
    }
