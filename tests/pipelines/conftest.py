"""A headless Chromium for the tests of pages; they are skipped if there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with ExitStack() as started:
        try:
            playwright = started.enter_context(api.sync_playwright())
        except Exception as error:  # of no kind of its own: its driver, a program, doesn't start
            pytest.skip(f"Playwright doesn't start ({error}); on Debian: apt-get install chromium")
        if not system and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("no Chromium here; install one by: apt-get install chromium, or: playwright install chromium")
        running = playwright.chromium.launch(executable_path=system)
        yield running
        running.close()
