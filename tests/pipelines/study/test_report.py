"""The report runs no script and is accessible in a browser, light and dark, wide and narrow."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from pipelines.number_format import duration
from pipelines.study.config import StudyFile, parse_study
from pipelines.study.findings import Findings
from pipelines.study.markdown import markdown
from pipelines.study.plots import curves, scale_of
from pipelines.study.report import Report, html
from pipelines.study.verdicts.comparisons import Comparison, Measured
from tests.pipelines.studies import write_study

SCRIPT = "<script>document.title = 'taken'; fetch('https://example.org/')</script>"


def comparison(arm, against, is_primary=True, readout="finetune", mean=0.012):
    numbers = (5, mean, 0.004, mean - 0.007, mean + 0.007, 0.025, 0.01, 0.02, 2.4, 0.006, mean - 0.01, mean + 0.01)
    return Comparison(readout, arm, against, is_primary, *numbers)


@pytest.fixture
def report(tmp_path):
    """Return the report of a study in which every name is a script tag."""
    path = write_study(
        tmp_path,
        name=SCRIPT,
        question=f"Does it help? {SCRIPT}",
        notes=[SCRIPT],
        arms={
            "undistilled": {"control": "undistilled"},
            SCRIPT: {"manifold": "relational"},
            "shuffled": {"control": "shuffled"},
        },
        primary={"arm": SCRIPT, "against": ["undistilled", "shuffled"], "margin": 0.01},
        readouts={"probe": True},
    )
    arms = ("undistilled", SCRIPT, "shuffled")
    measured = tuple(
        Measured(readout, arm, (0, 1, 2, 3, 4), (0.61, 0.62, 0.6, 0.63, 0.64), 0.62, 0.0158)
        for readout in ("finetune", "probe")
        for arm in arms
    )
    findings = Findings(
        "helped",
        f"{SCRIPT}: every interval lies above zero.",
        30,
        30,
        measured,
        (
            comparison(SCRIPT, "undistilled"),
            comparison(SCRIPT, "shuffled"),
            comparison("shuffled", "undistilled", False, mean=-0.002),
            comparison(SCRIPT, "shuffled", False, "probe"),
        ),
        {arm: [1.1, 0.9, 0.8] for arm in arms},
    )
    file = parse_study(path.read_bytes(), path)
    return Report(file, findings, None, (f"changed {SCRIPT}",), {"torch": SCRIPT}, {"train_digest": "0" * 64})


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.handlers = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


def test_a_name_that_is_a_script_tag_stays_text(report):
    page = Tags()
    page.feed(html(report))
    assert "script" not in page.tags
    assert page.handlers == []
    assert page.links == ["data:,"], "the page requests something outside itself"
    assert "url(" not in html(report)
    assert "@import" not in html(report)
    text = markdown(report)
    assert "<script" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (4, 7) for row in rows)


def test_markdown_has_the_verdict_the_arms_and_the_primary_differences(report):
    text = markdown(report)
    assert text.startswith("**Helped.**")
    assert "| undistilled | 0.6200 ± 0.0158 | 0.6200 ± 0.0158 |" in text
    assert "+0.0050 to +0.0190" in text
    assert report.file.digest[:16] in text


def test_seeds_that_all_gave_one_difference_have_no_interval_and_no_p_of_zero(report):
    same = dataclasses.replace(
        report.findings.comparisons[0], seeds=2, mean=0.01, sd=0.0, low=0.01, high=0.01, p=0.0, p_holm=0.0, effect=None
    )
    tiny = dataclasses.replace(report.findings.comparisons[1], p_holm=1e-9)
    findings = dataclasses.replace(report.findings, comparisons=(same, tiny))
    page, text = (show(dataclasses.replace(report, findings=findings)) for show in (html, markdown))
    for shown in (page, text):
        assert "none: the spread is zero" in shown
        assert "+0.0100 to +0.0100" not in shown
        assert "0.0000" not in shown
    assert "the same with both seeds" in page
    assert "&lt;0.0001" in page
    assert "<0.0001" in text


def test_an_axis_contains_its_values_and_has_round_ticks():
    scale = scale_of([0.613, 0.648, 0.601])
    assert scale.ticks == (0.6, 0.62, 0.64, 0.66)
    assert (scale.place(0.6), scale.place(0.66), scale.label(0.6)) == (0, 100, "0.60")
    assert scale_of([0.5, 0.5]).place(0.5) == 50
    assert curves({"one": [1.0]}) is None
    assert curves({"one": [1.0, 0.0]}).lines[0].points == "0.00,0.00 100.00,100.00"


def test_durations_have_the_unit_that_fits():
    assert [duration(s) for s in (None, 0.012, 42, 600, 9000)] == [
        "not measured",
        "0.012 s",
        "42 s",
        "10.0 min",
        "2.5 h",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser_the_page_logs_nothing_fits_and_is_accessible(browser, report, tmp_path, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    path = tmp_path / "report.html"
    path.write_text(html(report), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    page.locator("details").evaluate_all("all => all.forEach(one => one.open = true)")
    assert messages == []
    assert [url for url in requests if url != path.as_uri()] in ([], ["data:,"])
    assert page.title() == f"{SCRIPT}: helped"
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page scrolls sideways"
    faults = axe.Axe().run(page).response["violations"]
    page.close()
    assert [(one["id"], one["impact"], one["nodes"][0]["html"]) for one in faults] == []


def test_results_are_json_that_has_no_nan(report):
    json.loads(json.dumps(dataclasses.asdict(report.findings), allow_nan=False))
    assert isinstance(report.file, StudyFile)


def test_a_table_that_is_wider_than_a_phone_has_a_shadow_on_the_side_where_it_goes_on(browser, report, tmp_path):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    (tmp_path / "report.html").write_text(html(report), "utf-8")
    page.goto((tmp_path / "report.html").as_uri())
    wide = page.locator(".scroll").first
    assert wide.evaluate("one => one.scrollWidth > one.clientWidth + 50")
    seen = []
    for place in ("0", "one.scrollWidth / 2", "one.scrollWidth"):
        wide.evaluate(f"one => {{ one.scrollLeft = {place} }}")
        seen.append(_is_dark_at_the_sides(wide))
    page.close()
    assert seen == [(False, True), (True, True), (True, False)]


def _is_dark_at_the_sides(table):
    """Return whether the left and the right edge inside a table's frame are shaded, above its first line of text."""
    picture = Image.open(io.BytesIO(table.screenshot())).convert("L")
    return tuple(picture.getpixel((x, 9)) < 230 for x in (3, picture.width - 4))
