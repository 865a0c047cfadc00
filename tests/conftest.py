"""What all tests share: no network, a cache folder of their own, a small number of threads."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["ARMADA_PRECISION"] = "fp32"  # what is faster is measured, and differs on a busy machine from run to run

from teacher_cache import Cache
from tests.skips import pytest_sessionfinish, pytest_terminal_summary

__all__ = ["pytest_collection_finish", "pytest_sessionfinish", "pytest_terminal_summary"]


def pytest_collection_finish() -> None:
    """Take what the tests have imported, a million objects, out of every garbage collection to come."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "user-state"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(str(tmp_path / "cache"), create=True)
