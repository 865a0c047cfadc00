"""What the tests of batches share: short pauses, and a provider that lists a batch as soon as it is accepted."""

import pytest

from teacher_cache.batches import api, collecting, sending


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(api, "_PAUSES_S", (0.01, 0.02))
    monkeypatch.setattr(sending, "LISTED_AFTER_S", 0.0)
    monkeypatch.setattr(collecting, "MISSING_S", 60.0)
