"""The figures that the pages publish: docs/benchmarks.md is what `make bench` gave, README cites it, commands exist."""

import json
import re
import shlex

import pytest

from tests.benchmarks.conftest import ROOT
from tests.documents import PAGES

JSON, PAGE = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "benchmarks.md"
COMMAND = re.compile(r"python (benchmarks/\w+\.py)([^`\n]*)")


def rows_in(text):
    """Return the cells of each row of the tables in a text, without their headings."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:2] == "| "]
    return [row for row in rows if row[0] != "what"]


def test_the_page_of_benchmarks_is_the_table_of_the_measured_figures_and_nothing_else(modules):
    facts = json.loads(JSON.read_text("utf-8"))
    assert PAGE.read_text("utf-8") == modules["all"].page_of(facts), "python benchmarks/all.py --table --out docs"


def test_the_page_has_every_benchmark_at_the_size_of_make_bench(modules):
    facts = json.loads(JSON.read_text("utf-8"))
    measured = {one["name"]: one["command"] for one in facts["results"] if one["facts"]}
    expected = {one.name: modules["all"].shown(one, one.small) for one in modules["sizes"].BENCHMARKS}
    assert measured == expected, "python benchmarks/all.py --out docs --add --only NAME"
    assert not facts["tiny"]
    shown = {row[0] for row in rows_in(PAGE.read_text("utf-8"))}
    claims = {
        figure.claim.format_map(one["facts"])
        for one in facts["results"]
        for benchmark in modules["sizes"].BENCHMARKS
        if benchmark.name == one["name"]
        for figure in benchmark.figures
    }
    assert claims == shown  # a figure whose place in the JSON is wrong would be missing


def test_a_figure_that_depends_on_bfloat16_says_so_and_the_page_says_what_the_processor_has():
    rows = [row for row in rows_in(PAGE.read_text("utf-8")) if "bfloat16" in row[0]]
    assert rows
    assert {row[2] for row in rows} == {"processor, bfloat16"}
    assert re.search(r"bfloat16 by \w+|no bfloat16 instructions", PAGE.read_text("utf-8"))


def test_the_speeds_in_the_readme_are_those_of_the_page_with_the_machine_that_gave_them():
    section = re.search(r"^## How fast\n(.*?)^## ", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)[
        1
    ]
    published = [row[:3] for row in rows_in(PAGE.read_text("utf-8"))]
    cited = rows_in(section)
    assert len(cited) >= 4
    assert [row for row in cited if row not in published] == []
    machine = json.loads(JSON.read_text("utf-8"))["machine"]
    assert machine["processor"] in section
    assert f"{machine['cores']} cores" in section
    assert re.search(r"in \d+ minutes", PAGE.read_text("utf-8"))[0] in section
    assert "docs/benchmarks.md" in section


def test_what_the_arithmetic_of_scale_takes_from_the_page_is_on_it():
    found = re.search(r"encoding, (.+) at ([\d.]+ per second) \*m\*", (ROOT / "docs" / "scale.md").read_text("utf-8"))
    measured = rows_in(PAGE.read_text("utf-8"))
    assert found[2] in [row[1] for row in measured if "encoded" in row[0]]
    assert any(found[1] in row[0] for row in measured)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_benchmark_that_a_page_names_as_a_source_exists_and_takes_its_options(page):
    for program, words in COMMAND.findall(page.read_text("utf-8")):
        path = ROOT / program
        assert path.is_file(), program
        known = set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', path.read_text("utf-8")))
        given = {word for word in shlex.split(words, comments=True) if word.startswith("--")}
        assert given <= known, f"{page.name}: {program}{words}"


def test_every_row_of_the_full_size_names_the_command_that_gave_it():
    text = (ROOT / "docs" / "full-size.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| claim")]
    assert len(rows) > 10
    assert [row for row in rows if not re.search(r"`python benchmarks/\w+\.py[^`]*` \|$|\| the same \|$", row)] == []
