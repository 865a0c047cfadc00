"""Builds of a few texts with a recipe, for the tests of rewriting."""

import pytest

from teacher_cache import BuildOptions, build, open_teacher, source_of_teacher, with_recipe
from teacher_cache.building import retries
from tests import fakes

FAKE = "tests.fakes:FakeTeacher"
OWN = "tests.teacher_cache.rewriting.own_rewriter:Own"
TEXTS = [f"idea {i}" for i in range(6)]


@pytest.fixture
def no_long_waits(monkeypatch):
    monkeypatch.setattr(retries, "_BACKOFF_S", 0.02)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def painter(rewrite=None, text=FAKE, **options):
    return open_teacher(with_recipe(text, rewrite=rewrite, **options))


def run(cache, teacher, texts=TEXTS, **options):
    return build(cache, texts, teacher, fakes.encoder(), BuildOptions(**options))


def drawn(cache, teacher):
    """The drawn prompts by text."""
    columns = ["prompt", "drawn_prompt"]
    rows = cache.images(source_of_teacher(teacher), columns).select(columns).to_pylist()
    return {row["prompt"]: row["drawn_prompt"] for row in rows}
