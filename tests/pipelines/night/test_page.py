"""The report page in headless Chromium: it fits, is accessible, contacts nobody, and shows text as text."""

import contextlib
import itertools
import re

import pytest

from pipelines.night.hours import hours_of
from pipelines.night.page import KEPT, html, page_path, write_page
from teacher_cache import Cache, Minute, state_folder
from tests.pipelines.gallery.test_browser import faults, opened
from tests.pipelines.night.nights import SCRIPT, night_of
from tests.pipelines.night.test_facts import copier


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A night of two runs with everything that the page shows; its hours are those of a longer one."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "home"))
        cache = Cache(str(folder / "cache"), create=True)
        prompts = [SCRIPT, f"[refused] {SCRIPT}", "[transient] " + "x" * 500]
        prompts += [f"the same picture {i}" for i in range(4)]
        prompts += [f"a quiet picture of thing number {i}" for i in range(60)]
        night_of(cache, prompts, teacher=copier(price=0.04), max_calls=20)
        words = ("cache", "build", "rows.jsonl", "--max-calls", "70", "--cache", str(cache.store))
        found = night_of(cache, prompts, teacher=copier(price=0.04), words=words, samples=2, max_calls=70)
    minutes = [Minute("a", 29_000_000 + at, 9 if at < 200 or at > 270 else 1, at % 3, 12, 0.1) for at in range(400)]
    return replace(found, hours=hours_of(minutes))


@pytest.fixture(scope="module")
def page(night, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "night.html"
    write_page(night, path, is_own=False)
    return path.as_uri()


def test_the_page_fits_and_has_no_accessibility_fault(browser, page):
    with opened(browser, page) as shown:
        for summary in shown.locator("summary").all():
            summary.click()
        for width, scheme in itertools.product((390, 1200), ("light", "dark")):
            shown.set_viewport_size({"width": width, "height": 900})
            shown.emulate_media(color_scheme=scheme)
            assert faults(shown) == [], (width, scheme)
            assert shown.evaluate("document.documentElement.scrollWidth") <= width
        visible = "all => all.filter(one => one.naturalWidth > 1).length"
        assert shown.locator("figure img").evaluate_all(visible) == shown.locator("figure img").count() > 24


def test_the_page_says_what_there_is_and_a_script_stays_text(browser, night, page):
    with opened(browser, page) as shown:
        text = shown.locator("main").inner_text()
        assert shown.title() != "taken"
        assert shown.locator("main script").count() == 0
    assert "The budget is reached" in text
    assert "The slowest hour" in text
    assert f"{night.pictures} of {night.requested} requested pictures are there" in text
    assert f"{night.calls_total}\t{night.cost_usd_total:,.2f} USD" in text
    assert re.search(r"\d times the same file, for different prompts", text)
    assert "armada cache build rows.jsonl --cache" in text
    assert SCRIPT in text


def test_the_page_needs_no_file_beside_it_and_no_script(night):
    text = html(night)
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) == []
    assert "<script" not in text
    assert "default-src 'none'" in text


def test_pages_are_kept_in_the_user_s_folder_and_the_oldest_are_removed(night, cache, tmp_path):
    path = page_path(cache, None, 0.0)
    assert path.is_relative_to(state_folder())
    for number in range(KEPT + 3):
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(parents=True)
        path.with_name(f"1960-{number:03}.html").write_text("old")
    write_page(night, path, is_own=True)
    assert len(list(path.parent.iterdir())) == KEPT
    assert path.exists()
    assert page_path(cache, "none", 0.0) is None
    assert page_path(cache, str(tmp_path / "mine.html"), 0.0) == tmp_path / "mine.html"
    names = {file.name for file in (tmp_path / "cache").rglob("*")}
    assert not [name for name in names if name.endswith(".html")]
