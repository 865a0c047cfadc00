"""The gallery in headless Chromium, served and exported: it works, contacts no other host, and is accessible."""

import contextlib
import re

import pytest

from pipelines.gallery.static_export import export_gallery
from teacher_cache import Cache
from tests.pipelines.galleries import FAILING, ODD, SCRIPT, fill, served


@pytest.fixture(scope="module")
def site(tmp_path_factory, request):
    """Yield the addresses of one cache's first page, served and exported."""
    folder = tmp_path_factory.mktemp("gallery")
    cache = Cache(str(folder / "cache"), create=True)
    fill(cache)
    with served(cache, folder / "home") as address:
        export_gallery(cache, folder / "out")
        yield {"served": address, "exported": (folder / "out" / "index.html").as_uri()}


@contextlib.contextmanager
def opened(browser, url, width=1200, scheme="light"):
    """Open a page that must print nothing on the console and send no request to another host."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.on("dialog", lambda dialog: messages.append(dialog.message))
    page.goto(url)
    yield page
    page.wait_for_load_state("networkidle")
    origin = url.removesuffix("index.html")
    context.close()
    assert messages == []
    assert [one for one in requests if not one.startswith(origin)] == []


def faults(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    return [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in found]


def prompts(page):
    return page.locator("#results .card .prompt").all_text_contents()


def search(page, text, count):
    page.get_by_label("Words in the prompt").fill(text)
    text = f"{count} row" if count == 1 else f"{count} rows"
    page.locator("#results .count", has_text=re.compile(rf"^{text}(?!\w)")).wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("how", ["served", "exported"])
def test_every_page_fits_and_has_no_accessibility_fault(browser, site, how, width, scheme):
    with opened(browser, site[how], width, scheme) as page:
        for step in ("here", "a row", "Failures", "Coverage and cost"):
            if step == "a row":
                page.locator("#results .card a", has_text="number 17").or_(
                    page.locator("#results .card a").nth(20)
                ).first.click()
                page.locator("#near ~ .cards").wait_for(timeout=15_000)
            elif step != "here":
                page.get_by_role("link", name=step).first.click()
            page.wait_for_load_state("networkidle")
            assert faults(page) == [], step
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{step} scrolls sideways"


@pytest.mark.parametrize("how", ["served", "exported"])
def test_search_finds_while_typing_and_filters(browser, site, how):
    with opened(browser, site[how]) as page:
        search(page, "number 17", 1)
        assert prompts(page) == ["a quiet picture of thing number 17"]
        page.get_by_label("Words in the prompt").fill("STRASSE")
        page.locator("#results .prompt", has_text="Straße im Frühling").wait_for()
        assert len(prompts(page)) == 1
        search(page, "nothing like this", 0)
        search(page, "", 100)
        page.get_by_label("Show").select_option("failed:refused")
        page.locator("#results .count", has_text="2 rows").wait_for()
        assert sorted(prompts(page)) == sorted(FAILING[:2])
        page.get_by_label("Show").select_option("drawn")
        page.locator("#results .count", has_text="96 rows").wait_for()
        page.locator("#results .card a").first.click()
        page.get_by_role("heading", name="Nearest pictures").wait_for()


@pytest.mark.parametrize("how", ["served", "exported"])
def test_paging_goes_through_all_rows_by_links_and_by_keys(browser, site, how):
    with opened(browser, site[how]) as page:
        seen = prompts(page)
        page.get_by_role("link", name="Next").first.click()
        page.get_by_text("page 2 of 3").first.wait_for()
        page.wait_for_load_state("networkidle")
        seen += prompts(page)
        page.keyboard.press("ArrowRight")
        page.get_by_text("page 3 of 3").first.wait_for()
        page.wait_for_load_state("networkidle")
        seen += prompts(page)
        assert len(seen) == len(set(seen)) == 100
        page.keyboard.press("ArrowLeft")
        page.get_by_text("page 2 of 3").first.wait_for()
        page.wait_for_load_state("networkidle")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.name") == "q"


@pytest.mark.parametrize("how", ["served", "exported"])
def test_a_search_has_pages_too(browser, site, how):
    with opened(browser, site[how]) as page:
        search(page, "thing number", 91)
        page.locator("#results [rel=next]").first.click()
        page.get_by_text("page 2 of 2").first.wait_for()
        assert len(prompts(page)) == 43


@pytest.mark.parametrize("how", ["served", "exported"])
def test_a_prompt_that_is_a_script_tag_stays_text(browser, site, how):
    with opened(browser, site[how]) as page:
        search(page, "<script>", 2)
        assert SCRIPT in prompts(page)
        assert page.locator("#results script, #results img[onerror]").count() == 0
        page.locator("#results .card a").filter(has=page.locator("img")).first.click()
        page.get_by_role("heading", name="Nearest pictures").wait_for()
        assert page.locator("h1").text_content() == SCRIPT
        assert page.title() != "taken"
        page.goto(site[how])
        search(page, "img src", 1)
        assert prompts(page) == [ODD[1]]


@pytest.mark.parametrize("how", ["served", "exported"])
def test_pictures_are_visible(browser, site, how):
    with opened(browser, site[how]) as page:
        page.wait_for_load_state("networkidle")
        shown = page.locator("#results img").evaluate_all("all => all.filter(one => one.naturalWidth).length")
        assert shown >= 12


def test_the_pages_of_a_server_work_without_javascript(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site["served"])
    page.get_by_label("Words in the prompt").fill("number 17")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**q=number+17*")
    assert prompts(page) == ["a quiet picture of thing number 17"]
    context.close()
