"""A cache of many small shards."""

from __future__ import annotations

import pytest

from teacher_cache import Cache, build
from tests.teacher_cache.maintenance.caches import PROMPTS, SMALL, adapters


@pytest.fixture
def built(cache: Cache) -> Cache:
    build(cache, PROMPTS, *adapters(), SMALL)
    return cache
